//! Belfry's wire formats: the frames that clients and servers exchange over a
//! socket, and the requests and reports of broadcasts, sweeps and operators.
//!
//! This crate parses all outside input strictly, once, into types that hold
//! only valid values. The JSON Schemas in `schemas/` are generated from the
//! same types.
#![warn(missing_docs)]

mod advice;
mod bounded;
mod broadcast;
mod call;
mod channel;
mod channel_frames;
mod channel_rules;
mod client;
mod complete;
mod envelope;
mod error;
mod hook;
mod ids;
mod json;
mod list;
mod lock_frames;
mod message;
mod notification;
mod operator;
mod position;
mod presence;
mod reader;
mod request;
pub mod schemas;
mod server;
mod shape;
mod sweep;
mod time;
mod token;
mod version;

pub use advice::Advice;
pub use bounded::Bounded;
pub use broadcast::{
    BatchedNotice, BroadcastInquiry, BroadcastReport, BroadcastRequest, BroadcastStatus,
    BroadcasterRequest, Failures, MAX_FRAME_BYTES, MAX_STORED_FRAME_BYTES, MAX_WAIT_SECONDS,
    Notice, NoticeType, PresenceRequest, Receipt, ReceiptsHistory, ReceiptsReport, ReceiptsRequest,
    Target, WaitSeconds,
};
pub use call::{Call, CallAction};
pub use channel::{Address, ChannelName};
pub use channel_frames::{
    Ack, Acked, ChannelError, ChannelRefused, ChannelSince, ChannelState, ChannelWanted, History,
    HistoryLimit, HistoryPage, MAX_CHANNELS, MAX_HISTORY, NotRecovered, Publish, Published,
    ReadHistory, ReaderSession, Since, Subscribe, Subscribed, SubscribedTo, Sync, Synced,
    SyncedChannel, Unsubscribe, Unsubscribed,
};
pub use channel_rules::{
    Action, Allow, AllowedActions, ChannelPattern, ChannelRule, ChannelsFile, HistoryRule,
    InvalidChannelRules, MAX_CHANNEL_RULES_BYTES, PatternSegment,
};
pub use client::{AuthRefresh, ClientFrame, Hello, HelloData};
pub use envelope::{Bare, Envelope};
pub use error::{ErrorCode, ErrorData, Refused};
pub use hook::{ConnectionEvent, HookEvent, PresenceEvent};
pub use ids::{ConnectionId, Epoch, FrameId, Group, InvalidText, Kind, MessageId, UserId};
pub use json::{JsonError, MAX_DEPTH};
pub use list::List;
pub use lock_frames::{
    HeldLock, HeldLocks, Holder, Lock, LockChanged, LockName, LockSeconds, Locked, MAX_LOCKS,
    Unlock, Unlocked,
};
pub use message::{Message, MessageData, MessageFrame, Sender};
pub use notification::{Announcement, AnnouncementLevel, NotificationData, SetCreated, Upload};
pub use operator::{
    ActionInquiry, ChannelCounts, ChannelLocks, ConnectionDetails, ConnectionList, Drain,
    HeldByConnection, InspectConnection, Kick, KickCode, ListConnections, ListLocks,
    ListedConnection, OperatorReport, OperatorRequest, PurgeHistory, PurgeReport,
    ReadChannelPresence, ReadStats, ReleaseLock, ReleaseReport, SignOut, SignOutReport, Socket,
    Stats, SubscribedChannel, SubscriberCount, SubscribersTold,
};
pub use position::Position;
pub use presence::{
    MAX_PRESENCE_INFO_BYTES, Member, PresenceChange, PresenceInfo, Present, PresentInChannel,
    ReadPresence,
};
pub use reader::{Cursor, InvalidCursor, MAX_POLL_SECONDS, Messages, ReadRequest};
pub use request::InvalidRequest;
pub use server::{
    AuthRefreshed, AutoSubscribed, Batch, HistoryPurged, Limits, Reconnect, ServerFrame, Welcome,
};
pub use sweep::{SweepReport, SweepRequest};
pub use time::{InvalidTimestamp, Timestamp};
pub use token::BearerToken;
pub use version::{Version, VersionError};
