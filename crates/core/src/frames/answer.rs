use belfry_protocol::{ErrorCode, FrameId, MAX_FRAME_BYTES, Refused, ServerFrame};

use super::rejection::Rejection;
use crate::ports::MetricEvent;
use crate::time::UnixMillis;

/// The answer to a frame, for the client and for the operator.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The frame to send back, as JSON. `None` for a frame that is not
    /// answered, and after the connection was closed.
    pub frame: Option<String>,
    pub outcome: FrameOutcome,
}

/// What happened to a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameOutcome {
    /// A frame of this type was served.
    Served(&'static str),
    /// The frame was refused; the connection stays open.
    Refused(ErrorCode),
    /// The client was told why, and its connection was closed.
    Closed(ErrorCode),
    /// The client had closed the connection before its frame was handled.
    ClientLeft,
    /// The store or the key server failed. The client may retry; the text is
    /// for the operator.
    Failed(String),
}

impl Answer {
    pub(super) fn served(
        name: &'static str,
        reply: Option<ServerFrame>,
    ) -> Result<Self, Rejection> {
        let frame = reply.map(|reply| reply.to_json());
        // A number may be longer in the reply than it was in the frame.
        if frame
            .as_ref()
            .is_some_and(|frame| frame.len() > MAX_FRAME_BYTES)
        {
            let reason = "the reply would be too large";
            return Err(Refused::new(ErrorCode::MessageTooLarge, reason).into());
        }
        Ok(Self {
            frame,
            outcome: FrameOutcome::Served(name),
        })
    }

    pub(super) fn refused(refused: Refused, now: UnixMillis) -> Self {
        Self {
            outcome: FrameOutcome::Refused(refused.code),
            frame: Some(refused.into_frame(now.to_timestamp()).to_json()),
        }
    }

    pub(super) fn failed(cause: String, frame_id: Option<FrameId>, now: UnixMillis) -> Self {
        let refused = Refused {
            correlation_id: frame_id,
            ..Refused::new(ErrorCode::Internal, "try again later")
        };
        Self {
            frame: Some(refused.into_frame(now.to_timestamp()).to_json()),
            outcome: FrameOutcome::Failed(cause),
        }
    }
}

impl FrameOutcome {
    /// Every frame is counted once, except those of clients that have left.
    pub(super) fn to_metric(&self) -> Option<MetricEvent> {
        match self {
            Self::Served(name) => Some(MetricEvent::FrameServed(name)),
            Self::Refused(code) | Self::Closed(code) => Some(MetricEvent::FrameRefused(*code)),
            Self::Failed(_) => Some(MetricEvent::FrameRefused(ErrorCode::Internal)),
            Self::ClientLeft => None,
        }
    }
}
