//! Cookies: read by no script, sent to this server alone, and with no request that another site made. Where the browser speaks TLS
//! their names begin with `__Host-`, so that it takes them from nobody else, and sends them in no other way.

use axum::http::{HeaderMap, HeaderValue, header};

/// What a cookie is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cookie {
    /// A login that was begun.
    Login,
    /// A node's owner.
    Owner,
    /// The operator.
    Operator,
}

impl Cookie {
    fn name(self, secure: bool) -> &'static str {
        match (self, secure) {
            (Self::Login, true) => "__Host-backstop-login",
            (Self::Login, false) => "backstop-login",
            (Self::Owner, true) => "__Host-backstop-owner",
            (Self::Owner, false) => "backstop-owner",
            (Self::Operator, true) => "__Host-backstop-operator",
            (Self::Operator, false) => "backstop-operator",
        }
    }

    /// All that a request shows under its name: somebody on a neighbouring name may have added one.
    pub(super) fn values(self, secure: bool, headers: &HeaderMap) -> impl Iterator<Item = &str> {
        let name = self.name(secure);
        headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(move |pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
    }

    /// Lets a browser keep a value, of hex digits, for so many seconds.
    pub(super) fn set(self, secure: bool, value: &str, seconds: u64) -> Option<HeaderValue> {
        let tls = if secure { "; Secure" } else { "" };
        let name = self.name(secure);
        let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{tls}");
        HeaderValue::from_str(&cookie).ok()
    }

    /// Lets a browser forget it.
    pub(super) fn end(self, secure: bool) -> Option<HeaderValue> {
        self.set(secure, "", 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(cookies: &[&str], cookie: Cookie, secure: bool) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::COOKIE, HeaderValue::from_str(cookie).unwrap());
        }
        cookie.values(secure, &headers).map(str::to_owned).collect()
    }

    #[test]
    fn a_cookie_is_set_so_that_nobody_else_reads_or_sends_it() {
        let plain = Cookie::Owner.set(false, "0a", 60).unwrap();
        assert_eq!(
            plain,
            "backstop-owner=0a; Path=/; HttpOnly; SameSite=Strict; Max-Age=60"
        );
        let secure = Cookie::Login.set(true, "0a", 60).unwrap();
        let want = "__Host-backstop-login=0a; Path=/; HttpOnly; SameSite=Strict; Max-Age=60; Secure";
        assert_eq!(secure, want);
        let end = Cookie::Operator.end(false).unwrap();
        assert!(end.to_str().unwrap().contains("Max-Age=0"));
    }

    #[test]
    fn every_value_of_a_name_is_seen_and_of_no_other() {
        let cookies = [
            "a=1; backstop-owner=x; backstop-owner-2=y",
            "backstop-owner=z;backstop-login=w",
        ];
        assert_eq!(shown(&cookies, Cookie::Owner, false), ["x", "z"]);
        assert_eq!(shown(&cookies, Cookie::Login, false), ["w"]);
        // Over TLS a cookie counts that no plain page can have set.
        assert_eq!(shown(&cookies, Cookie::Owner, true), [""; 0]);
        assert_eq!(shown(&["__Host-backstop-owner=s"], Cookie::Owner, true), ["s"]);
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(value in "[ -~]{0,80}") {
            shown(&[&value], Cookie::Owner, false);
        }
    }
}
