//! Random ids in the forms that AWS uses.

use std::net::Ipv4Addr;

use aws_lc_rs::rand;
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE};

/// API Gateway ignores the bits of a connection id that 11 bytes do not need.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the operating system has a source of random numbers");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An unguessable loopback address, other than 127.0.0.1.
pub(crate) fn loopback() -> Ipv4Addr {
    loop {
        let [b, c, d] = random();
        // The first and the last address of the network are not usable everywhere.
        if !matches!([b, c, d], [0, 0, 0 | 1] | [255, 255, 255]) {
            return Ipv4Addr::new(127, b, c, d);
        }
    }
}

/// An id in the form of Lambda's request ids.
pub(crate) fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A connection id like `R0oXAdfD0kwCH6w=`.
pub(crate) fn connection() -> String {
    URL_SAFE.encode(random::<11>())
}

/// Bytes of a connection id.
pub(crate) const CONNECTION_ID_LENGTH: usize = 16;

/// Whether `text` has the form of a connection id.
pub(crate) fn is_connection_id(text: &str) -> bool {
    LENIENT.decode(text).is_ok_and(|bytes| bytes.len() == 11)
}

/// A request or message id of API Gateway, like `HVhBnEjvDoEFcjg=`.
pub(crate) fn request() -> String {
    STANDARD.encode(random::<11>())
}

/// An X-Ray trace header.
pub(crate) fn trace() -> String {
    let seconds = jiff::Timestamp::now().as_second();
    format!("Root=1-{seconds:08x}-{};Sampled=0", hex(&random::<12>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_awss_forms() {
        assert_eq!(connection().len(), 16);
        assert!(connection().ends_with('='));
        assert!(is_connection_id(&connection()));
        assert!(is_connection_id("H111mc0HywMCEEf="), "stray bits");
        for malformed in [
            "",
            "x",
            "R0oXAdfD0kwCH6w",
            "R0oXAdfD0kwCH6w==",
            "R0oXAdfD0k+CH6w=",
        ] {
            assert!(!is_connection_id(malformed), "{malformed}");
        }
        assert_eq!(
            trace().len(),
            "Root=1-58406520-a006649127e371903a2de979;Sampled=0".len()
        );
    }
}
