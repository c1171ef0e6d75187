//! A KMS behind TLS, served by OpenSSL: with the authority that the configuration names, and with any other.

use std::io::{Read, Write};
use std::net::TcpListener;

use openssl::ssl::{SslAcceptor, SslMethod};

use crate::authority::Authority;
use crate::server::Server;
use crate::world::{Files, SECRET, create, section, text};

/// TLS in front of `server`, as `host`; where it listens.
fn front(server: &Server, authority: &Authority, host: &str) -> String {
    let (key, certificate) = authority.sign(host);
    let mut acceptor = SslAcceptor::mozilla_modern_v5(SslMethod::tls_server()).expect("an acceptor");
    acceptor.set_private_key(&key).expect("its key");
    acceptor.set_certificate(&certificate).expect("its certificate");
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let address = listener.local_addr().expect("an address");
    let behind = server.endpoint().trim_start_matches("http://").to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // One that does not trust it leaves.
            let Ok(mut stream) = acceptor.accept(stream) else { continue };
            let mut plain = std::net::TcpStream::connect(&behind).expect("it listens");
            let mut bytes = vec![0; 1 << 16];
            // One request, one answer: each comes in one or two pieces.
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                plain.write_all(&bytes[..count]).expect("taken");
                plain.set_read_timeout(Some(std::time::Duration::from_millis(300))).expect("set");
                while let Ok(count @ 1..) = plain.read(&mut bytes) {
                    let _ = stream.write_all(&bytes[..count]);
                }
            }
        }
    });
    format!("https://{address}")
}

#[test]
fn only_a_certificate_of_the_authority_that_is_named_is_taken() {
    let (server, authority, files) = (Server::start(), Authority::new(), Files::new());
    files.credentials("AKIAAAAAAAAAAAAAAAAA", SECRET);
    let ca_file = files.path("ca.pem");
    authority.write(&ca_file);
    let genuine = front(&server, &authority, "127.0.0.1");
    let strange = front(&server, &Authority::new(), "127.0.0.1");
    let misnamed = front(&server, &authority, "kms.example.com");
    let plain = server.endpoint().replace("http", "https");
    for (endpoint, told) in [
        (&strange, Some("certificate")),
        (&misnamed, Some("certificate")),
        // No TLS there: it is not fallen back to.
        (&plain, Some("tls")),
        (&genuine, None),
    ] {
        let ca = format!("ca_file = \"{}\"\n", ca_file.display());
        let daemon = files.daemon(&format!("[timings]\nattach_deadline_s = 2\n{}{ca}", section(&files, endpoint)));
        let words = ["volume", "create", "db", "--size", "8M", "--kms", "far", "--key", "alias/volumes"];
        let Some(told) = told else {
            create(&daemon, "db", "alias/volumes");
            daemon.attach("db");
            continue;
        };
        server.act(crate::server::Act::Honest);
        let error = daemon.refused(6, words);
        assert!(text(&error, "message").contains(told), "{endpoint}: {error}");
        assert!(server.requests().is_empty(), "no request comes before the certificate is judged");
    }
}
