//! Where an export is, as NBD URIs say it: `nbd://host[:port]/export` and `nbd+unix:///export?socket=PATH`
//! (doc/uri.md of the NBD project). TLS (`nbds:`) and vsock are not spoken here, and say so.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// The port that NBD has from IANA.
const PORT: u16 = 10809;

/// An export and the server that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NbdUri {
    /// As it was written.
    text: String,
    address: Address,
    export: String,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// A host by name or address, and a port.
    Tcp(String, u16),
}

/// A word that is no URI of a server that can be reached from here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUri {
    /// Another scheme.
    #[error("an NBD URI starts with nbd:// or nbd+unix:// (TLS and vsock are not supported)")]
    Scheme,
    /// `nbd+unix:` without its socket.
    #[error("nbd+unix:///EXPORT?socket=PATH needs its socket")]
    NoSocket,
    /// `nbd:` without a host, or with a port that is none.
    #[error("nbd://HOST[:PORT]/EXPORT needs a host, and a port is 1 to 65535")]
    Host,
    /// Escapes that are not UTF-8.
    #[error("the URI is not UTF-8 once decoded")]
    NotText,
}

impl NbdUri {
    /// The export called `export` of the server that listens at `socket`.
    pub fn unix(socket: impl Into<PathBuf>, export: &str) -> Self {
        let socket = socket.into();
        let text = format!("nbd+unix:///{export}?socket={}", socket.display());
        Self { text, address: Address::Unix(socket), export: export.to_owned() }
    }

    /// Where the server listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The name of the export; may be empty.
    pub fn export(&self) -> &str {
        &self.export
    }
}

impl FromStr for NbdUri {
    type Err = BadUri;

    fn from_str(text: &str) -> Result<Self, BadUri> {
        let (scheme, rest) = text.split_once("://").ok_or(BadUri::Scheme)?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, export) = place.split_once('/').unwrap_or((place, ""));
        let address = match scheme {
            "nbd+unix" => Address::Unix(socket_of(query)?.into()),
            "nbd" => host_and_port(host)?,
            _ => return Err(BadUri::Scheme),
        };
        Ok(Self { text: text.to_owned(), address, export: decoded(export)? })
    }
}

impl fmt::Display for NbdUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn socket_of(query: &str) -> Result<String, BadUri> {
    let socket = query.split('&').find_map(|pair| pair.strip_prefix("socket=")).unwrap_or_default();
    if socket.is_empty() { Err(BadUri::NoSocket) } else { decoded(socket) }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn host_and_port(text: &str) -> Result<Address, BadUri> {
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, ""))) => (host, None),
        Some(Some((host, port))) => (host, Some(port.strip_prefix(':').ok_or(BadUri::Host)?)),
        Some(None) => return Err(BadUri::Host),
        None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| BadUri::Host))?;
    let host = decoded(host)?;
    if host.is_empty() || port == 0 { Err(BadUri::Host) } else { Ok(Address::Tcp(host, port)) }
}

fn decoded(text: &str) -> Result<String, BadUri> {
    percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| BadUri::NotText)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Result<(Address, String), BadUri> {
        text.parse::<NbdUri>().map(|uri| (uri.address().clone(), uri.export().to_owned()))
    }

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp(host.to_owned(), port)
    }

    #[test]
    fn every_form_of_the_specification_that_can_be_reached_is_taken() {
        for (text, address, export) in [
            ("nbd://example.com", tcp("example.com", 10809), ""),
            ("nbd://example.com:4711/", tcp("example.com", 4711), ""),
            ("nbd://127.0.0.1/a/b", tcp("127.0.0.1", 10809), "a/b"),
            ("nbd://[::1]/disk", tcp("::1", 10809), "disk"),
            ("nbd://[::1]:99/di%20sk", tcp("::1", 99), "di sk"),
            ("nbd+unix://?socket=/tmp/s", Address::Unix("/tmp/s".into()), ""),
            ("nbd+unix:///disk?x=y&socket=/tmp/a%3Fb", Address::Unix("/tmp/a?b".into()), "disk"),
        ] {
            assert_eq!(parts(text), Ok((address, export.to_owned())), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        for (text, reason) in [
            ("example.com", BadUri::Scheme),
            ("nbds://example.com", BadUri::Scheme),
            ("nbd+vsock://2/x", BadUri::Scheme),
            ("nbd:///disk", BadUri::Host),
            ("nbd://h:0/", BadUri::Host),
            ("nbd://h:70000/", BadUri::Host),
            ("nbd://[::1/x", BadUri::Host),
            ("nbd+unix:///disk", BadUri::NoSocket),
            ("nbd+unix:///disk?socket=", BadUri::NoSocket),
            ("nbd://h/%ff", BadUri::NotText),
        ] {
            assert_eq!(parts(text).err(), Some(reason), "{text}");
        }
    }

    #[test]
    fn a_uri_made_here_is_one_that_is_read_here() {
        let uri = NbdUri::unix("/run/nbd.sock", "db");
        assert_eq!(uri.to_string().parse(), Ok(uri));
    }
}
