use belfry_protocol::{Address, HistoryPage, NotRecovered, Subscribed, SubscribedTo};

use crate::ports::{MetricEvent, Recoveries};

/// What is counted of a `subscribed` answer. `None` if there is nothing to count.
pub(super) fn of_subscribed(subscribed: &Subscribed) -> Option<MetricEvent> {
    let (mut made, mut refused, mut recoveries) = (0, 0, Recoveries::default());
    for channel in &subscribed.channels {
        match channel {
            SubscribedTo::Refused(_) => refused += 1,
            SubscribedTo::Yes(state) => {
                // Nobody subscribes to the others.
                made += u64::from(matches!(state.channel, Address::Channel(_)));
                if let Some(page) = &state.history {
                    count(&mut recoveries, page);
                }
            }
        }
    }
    let nothing = made + refused == 0 && recoveries == Recoveries::default();
    (!nothing).then_some(MetricEvent::Subscribed {
        made,
        refused,
        recoveries,
    })
}

/// What is counted of a `history` answer.
pub(super) fn of_history(page: &HistoryPage) -> MetricEvent {
    let mut recoveries = Recoveries::default();
    count(&mut recoveries, page);
    MetricEvent::HistoryRead(recoveries)
}

fn count(recoveries: &mut Recoveries, page: &HistoryPage) {
    let counter = match (page.recovered, page.reason) {
        (None, _) => return,
        (Some(_), None) => &mut recoveries.complete,
        (Some(_), Some(NotRecovered::Epoch)) => &mut recoveries.epoch,
        (Some(_), Some(NotRecovered::Expired)) => &mut recoveries.expired,
        (Some(_), Some(NotRecovered::TooFar)) => &mut recoveries.too_far,
    };
    *counter += 1;
}
