//! Who calls, where a proxy stands in front. It is told in logs and counted by limits; nothing else is judged by it.

use super::Cidr;
use axum::http::{HeaderMap, header};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// The other end of the connection that a request came on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    /// Whether it spoke TLS with this server.
    pub(crate) tls: bool,
}

/// The proxies whose word on where a request came from is taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies(Arc<[Cidr]>);

impl Proxies {
    pub(crate) fn new(trusted: &[Cidr]) -> Self {
        Self(trusted.into())
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(address))
    }

    /// The client's address: the peer, or where that is a trusted proxy, the right-most hop that is none. What stands
    /// left of it anybody may have written. `X-Forwarded-For` is what most proxies set; `Forwarded` counts in its absence.
    pub(crate) fn client(&self, peer: Client, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.address.ip().to_canonical();
        if !self.trusts(client) {
            return client;
        }
        let mut hops: Vec<Option<IpAddr>> = values(headers, "x-forwarded-for").map(address).collect();
        if hops.is_empty() {
            hops = values(headers, header::FORWARDED.as_str())
                .map(|element| address(forwarded(element, "for")?))
                .collect();
        }
        for hop in hops.into_iter().rev() {
            // Behind a hop that cannot be read, the last one that can be is as far as anybody knows.
            let Some(hop) = hop else { break };
            client = hop;
            if !self.trusts(client) {
                break;
            }
        }
        client
    }

    /// Whether whoever asks speaks TLS: with this server, or with a trusted proxy that says so. What a browser keeps depends on it,
    /// and nothing else.
    pub(crate) fn is_secure(&self, peer: Client, headers: &HeaderMap) -> bool {
        if peer.tls || !self.trusts(peer.address.ip().to_canonical()) {
            return peer.tls;
        }
        let said = values(headers, "x-forwarded-proto").last().or_else(|| {
            let last = values(headers, header::FORWARDED.as_str()).last()?;
            forwarded(last, "proto")
        });
        said.is_some_and(|said| said.trim().trim_matches('"').eq_ignore_ascii_case("https"))
    }
}

/// The elements of all headers of a name, in order.
fn values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        // One that is not text is a hop that cannot be read.
        .flat_map(|value| value.to_str().unwrap_or("?").split(','))
}

/// A parameter of an element of `Forwarded` (RFC 7239).
fn forwarded<'a>(element: &'a str, parameter: &str) -> Option<&'a str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case(parameter).then_some(value)
    })
}

/// An address as proxies write it: bare, in brackets, in quotes, with a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let address = text
        .parse()
        .or_else(|_| text.parse().map(|address: SocketAddr| address.ip()))
        .or_else(|_| {
            text.strip_prefix('[')
                .and_then(|text| text.strip_suffix(']'))
                .unwrap_or(text)
                .parse()
        });
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    fn asked(peer: &str, headers: &[(&'static str, &str)]) -> (Proxies, Client, HeaderMap) {
        let proxies = Proxies::new(&["127.0.0.1".parse().unwrap(), "10.0.0.0/8".parse().unwrap()]);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let address = SocketAddr::new(peer.parse().unwrap(), 4711);
        (proxies, Client { address, tls: false }, map)
    }

    fn client(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let (proxies, peer, headers) = asked(peer, headers);
        proxies.client(peer, &headers).to_string()
    }

    #[test]
    fn tls_is_what_this_server_or_a_trusted_proxy_says() {
        let secure = |peer: &str, headers: &[(&'static str, &str)], tls| {
            let (proxies, peer, headers) = asked(peer, headers);
            proxies.is_secure(Client { tls, ..peer }, &headers)
        };
        let https = [("x-forwarded-proto", "https")];
        assert!(secure("198.51.100.1", &[], true));
        assert!(!secure("198.51.100.1", &https, false));
        assert!(secure("127.0.0.1", &https, false));
        assert!(!secure(
            "127.0.0.1",
            &[("x-forwarded-proto", "https, http")],
            false
        ));
        assert!(secure(
            "10.1.1.1",
            &[("forwarded", "for=192.0.2.1;proto=HTTPS")],
            false
        ));
        assert!(!secure("10.1.1.1", &[("forwarded", "for=192.0.2.1")], false));
        assert!(!secure("10.1.1.1", &[], false));
    }

    #[test]
    fn who_is_no_trusted_proxy_speaks_for_himself_alone() {
        let claims = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1")];
        assert_eq!(client("198.51.100.1", &claims), "198.51.100.1");
    }

    #[test]
    fn the_right_most_hop_that_is_not_trusted_is_the_client() {
        for (hops, want) in [
            ("192.0.2.1", "192.0.2.1"),
            ("203.0.113.9, 192.0.2.1", "192.0.2.1"),
            ("203.0.113.9, 192.0.2.1, 10.1.1.1", "192.0.2.1"),
            ("192.0.2.1:1234", "192.0.2.1"),
            ("[2001:db8::1]:99", "2001:db8::1"),
            ("10.1.1.1", "10.1.1.1"),
            ("192.0.2.1, unknown", "127.0.0.1"),
            ("192.0.2.1, unknown, 10.1.1.1", "10.1.1.1"),
            ("", "127.0.0.1"),
        ] {
            assert_eq!(client("127.0.0.1", &[("x-forwarded-for", hops)]), want, "{hops}");
        }
        let lines = [
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-for", "192.0.2.1"),
        ];
        assert_eq!(client("127.0.0.1", &lines), "192.0.2.1");
    }

    #[test]
    fn forwarded_is_read_where_the_other_header_is_missing() {
        for (hops, want) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=192.0.2.43, for=\"[2001:db8::1]\"", "2001:db8::1"),
            ("for=_hidden", "127.0.0.1"),
            ("proto=http", "127.0.0.1"),
        ] {
            assert_eq!(client("127.0.0.1", &[("forwarded", hops)]), want, "{hops}");
        }
        let both = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=203.0.113.9")];
        assert_eq!(client("127.0.0.1", &both), "192.0.2.1");
    }

    #[test]
    fn without_headers_the_peer_is_the_client() {
        assert_eq!(client("::ffff:127.0.0.1", &[]), "127.0.0.1");
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(value in "[ -~]{0,80}") {
            client("127.0.0.1", &[("x-forwarded-for", &value)]);
            client("127.0.0.1", &[("forwarded", &value)]);
            let (proxies, peer, headers) = asked("127.0.0.1", &[("x-forwarded-proto", &value), ("forwarded", &value)]);
            proxies.is_secure(peer, &headers);
        }
    }
}
