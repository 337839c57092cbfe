//! The sockets of a local port.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

/// Attempts to find a port that is free at both loopback addresses.
const ATTEMPTS: u32 = 100;

/// The sockets of one port. `localhost` resolves to either loopback address, so
/// both listen by default.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) main: TcpListener,
    pub(crate) ipv6_loopback: Option<TcpListener>,
}

#[derive(Debug)]
pub(crate) struct ListenError {
    pub(crate) address: SocketAddr,
    pub(crate) cause: io::Error,
}

impl Listeners {
    /// Listens at `host`, or at both loopback addresses. Port 0 picks a free port.
    pub(crate) async fn bind(host: Option<IpAddr>, port: u16) -> Result<Self, ListenError> {
        if let Some(host) = host {
            return Ok(Self {
                main: bind(host, port).await?,
                ipv6_loopback: None,
            });
        }
        let mut attempt = 1;
        loop {
            let main = bind(Ipv4Addr::LOCALHOST.into(), port).await?;
            let bound = main.local_addr().map_or(port, |address| address.port());
            match bind(Ipv6Addr::LOCALHOST.into(), bound).await {
                Ok(second) => {
                    return Ok(Self {
                        main,
                        ipv6_loopback: Some(second),
                    });
                }
                Err(error) if error.cause.kind() != ErrorKind::AddrInUse => {
                    tracing::debug!(reason = %error.cause, "no IPv6 loopback");
                    return Ok(Self {
                        main,
                        ipv6_loopback: None,
                    });
                }
                Err(error) if port != 0 || attempt == ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    /// The address for clients on this machine: a listener on all addresses is
    /// reached over loopback.
    pub(crate) fn reachable(&self) -> io::Result<SocketAddr> {
        let mut address = self.main.local_addr()?;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                Ipv4Addr::LOCALHOST.into()
            } else {
                Ipv6Addr::LOCALHOST.into()
            });
        }
        Ok(address)
    }
}

async fn bind(host: IpAddr, port: u16) -> Result<TcpListener, ListenError> {
    let address = SocketAddr::new(host, port);
    let bound = TcpListener::bind(address).await;
    bound.map_err(|cause| ListenError { address, cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_free_port_is_free_at_both_loopback_addresses() {
        let both = Listeners::bind(None, 0).await.unwrap();
        let port = both.reachable().unwrap().port();
        let Some(second) = both.ipv6_loopback else {
            // This machine has no IPv6.
            return;
        };
        assert_eq!(second.local_addr().unwrap().port(), port);
        drop(both.main);
        // Only IPv6's is taken.
        let error = Listeners::bind(None, port).await.unwrap_err();
        assert_eq!(
            error.address,
            SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)
        );
        let one = Listeners::bind(Some(Ipv4Addr::LOCALHOST.into()), port).await;
        assert!(one.unwrap().ipv6_loopback.is_none());
    }
}
