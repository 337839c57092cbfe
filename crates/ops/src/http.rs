//! HTTP for the SDK's clients and for plain calls, with one reading of the
//! system's root certificates.

use std::error::Error;
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;

/// Time limit for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit for a plain call.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub(crate) struct Http(SharedHttpConnector);

/// The response to a plain call.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Http {
    pub(crate) fn with_tls() -> Self {
        let connector = Connector::builder()
            .connector_settings(settings())
            .proxy_config(ProxyConfig::from_env())
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .build();
        Self(SharedHttpConnector::new(connector))
    }

    /// For the local stack: it reads no certificates, which a small container
    /// may not have.
    pub(crate) fn plain() -> Self {
        let connector = Connector::builder().connector_settings(settings());
        Self(SharedHttpConnector::new(connector.build_http()))
    }

    pub(crate) fn sdk_client(&self) -> SharedHttpClient {
        let connector = self.0.clone();
        http_client_fn(move |_, _| connector.clone())
    }

    pub(crate) async fn get(&self, url: &str) -> Result<Response, String> {
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_uri(url).map_err(|error| causes(&error))?;
        self.call(request).await
    }

    pub(crate) async fn post<'a>(
        &self,
        url: &str,
        headers: impl Iterator<Item = (&'a str, &'a str)>,
        body: String,
    ) -> Result<Response, String> {
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method("POST").map_err(|error| causes(&error))?;
        request.set_uri(url).map_err(|error| causes(&error))?;
        for (name, value) in headers {
            let (name, value) = (name.to_owned(), value.to_owned());
            let added = request.headers_mut().try_insert(name, value);
            added.map_err(|error| causes(&error))?;
        }
        self.call(request).await
    }

    async fn call(&self, request: HttpRequest) -> Result<Response, String> {
        let response = async {
            let response = self.0.call(request).await.map_err(|error| causes(&error))?;
            let status = response.status().as_u16();
            let body = ByteStream::new(response.into_body()).collect().await;
            let body = body.map_err(|error| causes(&error))?.into_bytes();
            let text = String::from_utf8_lossy(&body).into_owned();
            Ok(Response { status, text })
        };
        let response = tokio::time::timeout(CALL_TIMEOUT, response).await;
        response.unwrap_or_else(|_| Err(format!("no answer within {CALL_TIMEOUT:?}")))
    }
}

fn settings() -> HttpConnectorSettings {
    HttpConnectorSettings::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
}

/// An error and its causes.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}
