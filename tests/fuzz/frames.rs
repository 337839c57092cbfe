//! Frames from clients.

use std::sync::LazyLock;

use belfry_protocol::{ClientFrame, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::config;
use crate::mutate::{Corpus, changed, changes, mutated};
use crate::schema::{CLIENT_FRAME, SERVER_FRAME, is_beyond_schemas, judged, without_mark};

static CASES: LazyLock<Corpus> = LazyLock::new(|| Corpus::of_cases("client-frames.json"));

const MAX: usize = 128 * 1024;
const SECRET: &str = "eyJhbGciOi.SeCrEt";

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_frame_is_accepted_as_its_schema_says(text in mutated(&CASES)) {
        let by_schema = judged(&CLIENT_FRAME, &text);
        match ClientFrame::parse(&text, MAX) {
            Ok(frame) => {
                prop_assert_eq!(by_schema, Some(true));
                let value: Value = serde_json::from_str(without_mark(&text)).unwrap();
                prop_assert_eq!(frame.type_name(), &value["type"]);
                let too_long = ClientFrame::parse(&text, text.len() - 1).unwrap_err();
                prop_assert_eq!(too_long.code.as_str(), "MESSAGE_TOO_LARGE");
            }
            Err(refused) => {
                let beyond = is_beyond_schemas(&refused.message);
                prop_assert!(by_schema != Some(true) || beyond, "{}", refused);
                prop_assert!(refused.message.len() <= 300, "{}", refused);
                let reply = refused.into_frame(Timestamp::from_millis(0)).to_json();
                prop_assert_eq!(judged(&SERVER_FRAME, &reply), Some(true));
            }
        }
    }

    #[test]
    fn a_token_is_never_shown(changes in changes(&CASES), bare in any::<bool>()) {
        let data = if bare { json!(SECRET) } else { json!({"token": SECRET}) };
        let frame = json!({"type": "auth.refresh", "version": "1.0", "id": "r", "data": data});
        let shown = match ClientFrame::parse(&changed(frame, &changes).to_string(), MAX) {
            Ok(frame @ ClientFrame::AuthRefresh(_)) => format!("{frame:?}"),
            // In a frame of another type the text is data, not a token.
            Ok(_) => return Ok(()),
            Err(refused) => {
                let reply = refused.clone().into_frame(Timestamp::from_millis(0)).to_json();
                format!("{refused:?} {refused} {reply}")
            }
        };
        prop_assert!(!shown.contains(SECRET), "{}", shown);
    }
}
