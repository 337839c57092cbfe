//! The store's ports that frames or broadcasts need, and nobody here.

use belfry_core::connections::Connection;
use belfry_core::frames::TokenBucket;
use belfry_core::log::LogKey;
use belfry_core::ports::{
    Acks, DueCount, Extended, Extension, FreeLock, Leave, LeaveOutcome, Left, ListedLock, LockKey,
    LockPage, LockState, Locks, Presence, PresentUsers, ReaderPage, Receipts, SessionRefresh,
    StoreError, SubscribeResult, Subscription, Subscriptions, Swapped,
};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::{ChannelName, ConnectionId, Position, UserId};

use crate::store::Store;

macro_rules! unused {
    ($port:ident: $($method:ident($($argument:ty),*) -> $found:ty;)*) => {
        impl $port for Store {
            $(
                async fn $method(&self, $(_: $argument),*) -> Result<$found, StoreError> {
                    unreachable!("nobody needs it here")
                }
            )*
        }
    };
}

unused! { Acks:
    acknowledge(&LogKey, &UserId, &Position, UnixMillis) -> Position;
    find_ack(&LogKey, &UserId, UnixMillis) -> Option<Position>;
}

unused! { Locks:
    find_lock(&LockKey) -> Option<LockState>;
    held_locks(&ChannelName, usize, UnixMillis) -> LockPage;
    list_lock(&Connection, &ListedLock, usize) -> bool;
    listed_locks(&ConnectionId) -> Vec<ListedLock>;
    unlist_locks(&ConnectionId, &[ListedLock]) -> ();
    swap_lock(&LockKey, Option<&LockState>, &LockState) -> Swapped;
    release_lock(&LockKey, &ConnectionId, UnixMillis) -> Option<FreeLock>;
    is_in_session(&Connection) -> bool;
}

unused! { Presence:
    present(&ChannelName, usize) -> PresentUsers;
    announced(&ChannelName, &UserId) -> ();
    make_absent(&Leave, UnixMillis) -> LeaveOutcome;
    forget_leave(&Leave) -> ();
    count_later(&ChannelName, UnixMillis) -> ();
    count(&ChannelName, UnixMillis) -> u64;
    last_count(&ChannelName) -> Option<u64>;
    forget_count(&DueCount) -> ();
}

unused! { Receipts:
    readers(&LogKey, &Position, Option<&UserId>, usize, UnixMillis) -> ReaderPage;
    acks_of_users(&[UserId], UnixMillis) -> Vec<(UserId, Position)>;
}

unused! { SessionRefresh:
    extend(&ConnectionId, &Extension, &TokenBucket, UnixMillis) -> Extended;
    signed_out_at(&UserId) -> Option<UnixSeconds>;
}

unused! { Subscriptions:
    subscribe(&Connection, &[Subscription], usize, UnixMillis) -> SubscribeResult;
    unsubscribe(&Connection, &[ChannelName], UnixMillis) -> Left;
    channels(&ConnectionId) -> Vec<ChannelName>;
    find_subscriptions(&ConnectionId, &[ChannelName]) -> Vec<Subscription>;
}
