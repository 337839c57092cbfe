use super::FanoutSettings;

/// The number of segments of a broadcast to this many recipients.
pub(super) fn segments(recipients: u64, settings: &FanoutSettings) -> u32 {
    let per_worker = u64::from(settings.connections_per_worker.max(1));
    let most = u64::from(settings.max_workers.max(1));
    let segments = recipients.div_ceil(per_worker).clamp(1, most);
    u32::try_from(segments).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn split(recipients: u64, connections_per_worker: u32, max_workers: u32) -> u32 {
        let settings = FanoutSettings {
            connections_per_worker,
            max_workers,
            all_interval: Duration::ZERO,
        };
        segments(recipients, &settings)
    }

    #[test]
    fn a_broadcast_has_a_segment_for_each_worker() {
        for (recipients, expected) in [
            (0, 1),
            (1, 1),
            (5_000, 1),
            (5_001, 2),
            (20_000, 4),
            (20_001, 4),
            (u64::MAX, 4),
        ] {
            assert_eq!(split(recipients, 5_000, 4), expected, "{recipients}");
        }
    }

    #[test]
    fn a_setting_of_zero_counts_as_one() {
        assert_eq!(split(10, 0, 4), 4);
        assert_eq!(split(10, 5, 0), 1);
    }
}
