//! The one HTTP client of a function. The SDK's clients and plain requests
//! share its connections and the system's root certificates, which are read
//! once.

use std::error::Error;
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;

/// Time limit for opening a connection, name lookup and TLS included. Key
/// servers may be on another continent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends requests. Clones share connections.
#[derive(Debug, Clone)]
pub struct Http(SharedHttpConnector);

/// Why a document could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GetError {
    #[error("the address is not an HTTP address")]
    Address,
    #[error("no answer")]
    NoAnswer(#[from] ConnectorError),
    /// The status is not 2xx. Redirects are not followed.
    #[error("the server answered {0}")]
    Status(u16),
    #[error("the answer was cut short")]
    CutShort(#[source] Box<dyn Error + Send + Sync>),
    #[error("the answer is longer than {0} bytes")]
    TooLarge(usize),
    #[error("no complete answer within {0:?}")]
    TimedOut(Duration),
}

impl Http {
    /// Reads the system's root certificates, which takes milliseconds.
    #[must_use]
    pub fn open() -> Self {
        let settings = HttpConnectorSettings::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .build();
        let connector = Connector::builder()
            .connector_settings(settings)
            .proxy_config(ProxyConfig::from_env())
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .build();
        Self(SharedHttpConnector::new(connector))
    }

    /// The HTTP client for SDK clients. Their own connect and read timeouts are
    /// ignored: another connector would parse the certificates again and share
    /// no connections.
    #[must_use]
    pub fn sdk_client(&self) -> SharedHttpClient {
        let connector = self.0.clone();
        http_client_fn(move |_, _| connector.clone())
    }

    /// Fetches a document. Redirects are not followed.
    ///
    /// # Errors
    /// [`GetError`], also if the status is not 2xx.
    pub(crate) async fn get(
        &self,
        url: &str,
        timeout: Duration,
        max_bytes: usize,
    ) -> Result<Vec<u8>, GetError> {
        match tokio::time::timeout(timeout, self.body(url, max_bytes)).await {
            Ok(body) => body,
            Err(_) => Err(GetError::TimedOut(timeout)),
        }
    }

    async fn body(&self, url: &str, max_bytes: usize) -> Result<Vec<u8>, GetError> {
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_uri(url).map_err(|_| GetError::Address)?;
        let response = self.0.call(request).await?;
        if !response.status().is_success() {
            return Err(GetError::Status(response.status().as_u16()));
        }
        let mut chunks = ByteStream::new(response.into_body());
        let mut body = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| GetError::CutShort(error.into()))?;
            if body.len() + chunk.len() > max_bytes {
                return Err(GetError::TooLarge(max_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}
