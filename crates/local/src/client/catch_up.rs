//! A channel's messages in the order of their numbers, whatever order they
//! arrive in: each once, and none left out unless the server says so.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::socket::ErrorData;

/// The most messages that wait for earlier ones. The history has the others.
const MAX_HELD: usize = 1_000;

/// A position in a channel's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) epoch: String,
    pub(crate) seq: u64,
}

/// After what the first messages begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Since {
    Position(Position),
    /// What the user has acknowledged, on any device.
    Acked,
}

/// What a message says beside its content.
#[derive(Deserialize)]
pub(super) struct Stamp {
    pub(super) channel: Option<String>,
    pub(super) position: Option<Position>,
}

/// An entry of `subscribed`, or the `data` of `history`.
#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) channel: String,
    pub(super) error: Option<ErrorData>,
    /// When the subscription ends.
    pub(super) until: Option<String>,
    epoch: Option<String>,
    seq: Option<u64>,
    pub(super) recovered: Option<bool>,
    pub(super) reason: Option<String>,
    messages: Option<Vec<Box<RawValue>>>,
    more: Option<bool>,
}

/// A message whose turn has come.
pub(super) struct Ready {
    /// Absent if no history keeps it.
    pub(super) position: Option<Position>,
    pub(super) text: String,
}

/// A channel that is subscribed to.
pub(super) struct CatchUp {
    /// Of the last message that was given out, or where the subscription began.
    position: Option<Position>,
    /// Messages that arrived ahead of others.
    held: Vec<(Position, String)>,
    /// Whether an answer with earlier messages is still to come.
    is_waiting: bool,
}

impl CatchUp {
    /// Waits for the first answer.
    pub(super) fn new(since: Option<Position>) -> Self {
        Self {
            position: since,
            held: Vec::new(),
            is_waiting: true,
        }
    }

    pub(super) fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Whether messages are missing before one that has arrived.
    pub(super) fn has_gap(&self) -> bool {
        !self.is_waiting && !self.held.is_empty()
    }

    /// Whether an answer with earlier messages is still to come.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Messages are held back until the answer is here.
    pub(super) fn wait(&mut self) {
        self.is_waiting = true;
    }

    /// A message from the server. Adds to `ready` what can be given out now.
    pub(super) fn message(
        &mut self,
        position: Option<Position>,
        text: String,
        ready: &mut Vec<Ready>,
    ) {
        let Some(position) = position else {
            // Not kept, so in no order.
            ready.push(Ready { position, text });
            return;
        };
        if self.held.len() < MAX_HELD {
            self.held.push((position, text));
        }
        self.release(ready);
    }

    /// An answer with the channel's position, and messages after the one that
    /// was asked about. Returns whether more follow: ask after [`Self::position`].
    pub(super) fn page(&mut self, page: Page, ready: &mut Vec<Ready>) -> bool {
        let newest = page.epoch.zip(page.seq);
        let newest = newest.map(|(epoch, seq)| Position { epoch, seq });
        for message in page.messages.into_iter().flatten() {
            let stamp: Result<Stamp, _> = serde_json::from_str(message.get());
            let Some(position) = stamp.ok().and_then(|stamp| stamp.position) else {
                continue;
            };
            if self.has_given_out(&position) {
                continue;
            }
            self.position = Some(position.clone());
            ready.push(Ready {
                position: Some(position),
                text: message.get().to_owned(),
            });
        }
        self.is_waiting = page.more == Some(true);
        if page.recovered != Some(true) {
            // What has arrived is all there is up to the newest position.
            self.give_out_up_to(newest.as_ref(), ready);
            self.position = newest;
        } else if self.position.is_none() {
            // The position that was asked about is the newest.
            self.position = newest;
        }
        self.release(ready);
        self.is_waiting
    }

    fn has_given_out(&self, position: &Position) -> bool {
        let last = self.position.as_ref();
        last.is_some_and(|last| last.epoch == position.epoch && position.seq <= last.seq)
    }

    /// Gives out the messages that were held, but for those after this position.
    fn give_out_up_to(&mut self, newest: Option<&Position>, ready: &mut Vec<Ready>) {
        self.held.sort_by_key(|(position, _)| position.seq);
        let is_later = |position: &Position| {
            newest.is_some_and(|newest| position.epoch == newest.epoch && position.seq > newest.seq)
        };
        let (later, now): (Vec<_>, Vec<_>) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|(position, _)| is_later(position));
        self.held = later;
        for (position, text) in now {
            if !self.has_given_out(&position) {
                self.position = Some(position.clone());
                ready.push(Ready {
                    position: Some(position),
                    text,
                });
            }
        }
    }

    /// Gives out the messages that follow the last one, and drops those that
    /// arrived before.
    fn release(&mut self, ready: &mut Vec<Ready>) {
        if self.is_waiting {
            return;
        }
        let Some(last) = &mut self.position else {
            // The server gave no position to compare with.
            self.give_out_up_to(None, ready);
            return;
        };
        self.held.sort_by_key(|(position, _)| position.seq);
        let mut ahead = Vec::new();
        for (position, text) in self.held.drain(..) {
            if follows(last, &position) {
                *last = position.clone();
                ready.push(Ready {
                    position: Some(position),
                    text,
                });
            } else if position.epoch != last.epoch || position.seq > last.seq {
                ahead.push((position, text));
            }
        }
        self.held = ahead;
    }
}

/// Whether nothing can be between two positions. The first message of a channel
/// begins an epoch, so the position before it has another one.
fn follows(last: &Position, next: &Position) -> bool {
    let is_first = last.seq == 0 && next.seq == 1;
    is_first || (last.epoch == next.epoch && Some(next.seq) == last.seq.checked_add(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn position(seq: u64) -> Position {
        in_epoch("e", seq)
    }

    fn in_epoch(epoch: &str, seq: u64) -> Position {
        let epoch = epoch.to_owned();
        Position { epoch, seq }
    }

    fn message(seq: u64) -> Value {
        json!({"type": "message", "position": {"epoch": "e", "seq": seq}})
    }

    /// An answer with these messages.
    fn page(newest: u64, messages: &[u64], more: bool) -> Page {
        let messages: Vec<_> = messages.iter().copied().map(message).collect();
        let page = json!({"channel": "c", "epoch": "e", "seq": newest, "recovered": true, "messages": messages, "more": more});
        serde_json::from_str(&page.to_string()).unwrap()
    }

    fn beginning(newest: u64) -> Page {
        let page = json!({"channel": "c", "epoch": "e", "seq": newest});
        serde_json::from_str(&page.to_string()).unwrap()
    }

    fn lost(epoch: &str, newest: u64) -> Page {
        let page = json!({"channel": "c", "epoch": epoch, "seq": newest, "recovered": false, "reason": "tooFar", "messages": [], "more": false});
        serde_json::from_str(&page.to_string()).unwrap()
    }

    /// What comes out of a channel.
    #[derive(Default)]
    struct Seen(Vec<Ready>);

    impl Seen {
        fn live(&mut self, channel: &mut CatchUp, seqs: &[u64]) {
            for &seq in seqs {
                let text = message(seq).to_string();
                channel.message(Some(position(seq)), text, &mut self.0);
            }
        }

        fn take(&mut self) -> Vec<u64> {
            let ready = std::mem::take(&mut self.0).into_iter();
            ready.map(|ready| ready.position.unwrap().seq).collect()
        }
    }

    #[test]
    fn messages_come_out_in_order_and_once() {
        let (mut channel, mut seen) = (CatchUp::new(None), Seen::default());
        assert!(!channel.page(beginning(4), &mut seen.0));
        seen.live(&mut channel, &[5, 5, 7, 4, 8]);
        assert_eq!(seen.take(), [5]);
        assert!(channel.has_gap());
        seen.live(&mut channel, &[6]);
        assert_eq!(seen.take(), [6, 7, 8]);
        assert!(!channel.has_gap());
        assert_eq!(channel.position(), Some(&position(8)));
    }

    #[test]
    fn live_messages_wait_for_all_pages() {
        let (mut channel, mut seen) = (CatchUp::new(Some(position(1))), Seen::default());
        seen.live(&mut channel, &[6, 4]);
        assert!(channel.page(page(5, &[2, 3], true), &mut seen.0));
        assert_eq!(seen.take(), [2, 3]);
        assert!(!channel.page(page(5, &[4, 5], false), &mut seen.0));
        assert_eq!(seen.take(), [4, 5, 6]);
    }

    #[test]
    fn a_page_may_repeat_what_came_live() {
        let (mut channel, mut seen) = (CatchUp::new(None), Seen::default());
        channel.page(beginning(4), &mut seen.0);
        seen.live(&mut channel, &[5, 6]);
        channel.page(page(7, &[5, 6, 7], false), &mut seen.0);
        seen.live(&mut channel, &[7, 8]);
        assert_eq!(seen.take(), [5, 6, 7, 8]);
    }

    #[test]
    fn what_arrived_before_the_answer_is_not_lost() {
        let (mut channel, mut seen) = (CatchUp::new(None), Seen::default());
        seen.live(&mut channel, &[9, 8]);
        assert!(seen.take().is_empty());
        channel.page(beginning(9), &mut seen.0);
        assert_eq!(seen.take(), [8, 9]);
        seen.live(&mut channel, &[8, 10]);
        assert_eq!(seen.take(), [10]);
    }

    #[test]
    fn after_a_loss_it_goes_on_from_the_newest() {
        let (mut channel, mut seen) = (CatchUp::new(Some(position(1))), Seen::default());
        seen.live(&mut channel, &[402, 399]);
        channel.page(lost("e", 400), &mut seen.0);
        assert_eq!(seen.take(), [399]);
        assert!(channel.has_gap());
        seen.live(&mut channel, &[401]);
        assert_eq!(seen.take(), [401, 402]);
    }

    #[test]
    fn another_epoch_is_asked_about() {
        let (mut channel, mut seen) = (CatchUp::new(None), Seen::default());
        channel.page(beginning(4), &mut seen.0);
        let first = json!({"position": {"epoch": "f", "seq": 1}}).to_string();
        channel.message(Some(in_epoch("f", 1)), first, &mut seen.0);
        assert!(channel.has_gap());
        channel.wait();
        channel.page(lost("f", 1), &mut seen.0);
        assert_eq!(seen.take(), [1]);
        assert_eq!(channel.position(), Some(&in_epoch("f", 1)));
        assert!(!channel.has_gap());
    }

    #[test]
    fn the_first_message_of_a_channel_begins_an_epoch() {
        let (mut channel, mut seen) = (CatchUp::new(None), Seen::default());
        let page = r#"{"channel":"c","epoch":"before","seq":0}"#;
        channel.page(serde_json::from_str(page).unwrap(), &mut seen.0);
        seen.live(&mut channel, &[2, 1]);
        assert_eq!(seen.take(), [1, 2]);
        assert_eq!(channel.position(), Some(&position(2)));
    }

    #[test]
    fn without_a_history_everything_comes_out_at_once() {
        let (mut channel, mut seen) = (CatchUp::new(None), Vec::new());
        channel.message(None, "a".into(), &mut seen);
        let page = serde_json::from_str(r#"{"channel":"c"}"#).unwrap();
        assert!(!channel.page(page, &mut seen));
        channel.message(None, "b".into(), &mut seen);
        let texts: Vec<_> = seen.iter().map(|ready| &*ready.text).collect();
        assert_eq!(texts, ["a", "b"]);
        assert_eq!(channel.position(), None);
    }

    fn any_position() -> impl Strategy<Value = Position> {
        let seq = prop_oneof![0..6_u64, Just(u64::MAX), Just(u64::MAX - 1)];
        ("[ef]", seq).prop_map(|(epoch, seq)| Position { epoch, seq })
    }

    proptest! {
        #[test]
        fn whatever_a_server_sends_is_survived(
            since in proptest::option::of(any_position()),
            events in prop::collection::vec(
                (any_position(), prop::collection::vec(any_position(), 0..4), 0..4_usize),
                0..12,
            ),
        ) {
            let (mut channel, mut seen) = (CatchUp::new(since), Vec::new());
            for (position, messages, kind) in events {
                if kind == 0 {
                    channel.message(Some(position), "{}".into(), &mut seen);
                    continue;
                }
                let messages: Vec<_> = messages.iter().map(|at| json!({"position": at})).collect();
                let Position { epoch, seq } = position;
                let recovered = [None, Some(true), Some(false)][kind - 1];
                let page = json!({"channel": "c", "epoch": epoch, "seq": seq, "recovered": recovered, "messages": messages, "more": seq == 3});
                channel.page(serde_json::from_str(&page.to_string()).unwrap(), &mut seen);
            }
            prop_assert!(seen.len() + channel.held.len() <= 48);
        }

        #[test]
        fn in_any_order_each_message_comes_out_once(
            seqs in Just((1..=30_u64).collect::<Vec<_>>()).prop_shuffle(),
            answered_after in 0..=30_usize,
        ) {
            let (mut channel, mut seen) = (CatchUp::new(Some(position(0))), Seen::default());
            seen.live(&mut channel, &seqs[..answered_after]);
            channel.page(page(0, &[], false), &mut seen.0);
            seen.live(&mut channel, &seqs[answered_after..]);
            seen.live(&mut channel, &seqs);
            prop_assert_eq!(seen.take(), (1..=30).collect::<Vec<_>>());
        }
    }
}
