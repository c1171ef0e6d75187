//! Credentials of the machine's role, as an instance of EC2 has them (instance metadata, version 2); and what `envol doctor`
//! says of a section.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::server::Server;
use crate::world::{Files, SECRET, chmod, create, section, state, text};

/// Serves instance metadata; where, and the paths that were asked for.
fn metadata() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let paths = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let paths = Arc::clone(&paths);
            std::thread::spawn(move || answer(stream, &paths));
        }
    });
    (endpoint, asked)
}

fn answer(stream: TcpStream, paths: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut first) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if first.is_empty() {
                first.clone_from(&line);
            }
            if line.trim_end().is_empty() {
                break;
            }
            head.push_str(&line.to_ascii_lowercase());
        }
        paths.lock().expect("no panic").push(first.trim_end().to_owned());
        let knows_token = head.contains("x-aws-ec2-metadata-token: a-token");
        let (status, body) = match first.split(' ').nth(1).unwrap_or_default() {
            "/latest/api/token" => ("200 OK", "a-token".to_owned()),
            _ if !knows_token => ("401 Unauthorized", String::new()),
            path if path.ends_with("/security-credentials/envol") => ("200 OK", credentials()),
            path if path.contains("security-credentials") => ("200 OK", "envol".to_owned()),
            _ => ("404 Not Found", String::new()),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nx-aws-ec2-metadata-token-ttl-seconds: 300\r\ncontent-length: {length}\r\n\r\n"
        );
        if reader.get_mut().write_all(format!("{head}{body}").as_bytes()).is_err() {
            return;
        }
    }
}

fn credentials() -> String {
    json!({
        "Code": "Success", "LastUpdated": "2026-01-01T00:00:00Z", "Type": "AWS-HMAC",
        "AccessKeyId": "ASIAAAAAAAAAAAAAAAAA", "SecretAccessKey": SECRET, "Token": "token",
        "Expiration": "2099-01-01T00:00:00Z",
    })
    .to_string()
}

#[test]
fn the_role_of_the_machine_is_used_where_no_file_is_named() {
    let (files, server, (metadata, asked)) = (Files::new(), Server::start(), metadata());
    let daemon = files.daemon(&format!(
        "[kms.far]\nkind = \"aws\"\nregion = \"us-east-1\"\nendpoint = \"{}\"\nmetadata_endpoint = \"{metadata}\"\n",
        server.endpoint()
    ));
    create(&daemon, "db", "alias/volumes");
    daemon.attach("db");
    assert_eq!(state(&daemon, "db"), "in-use");
    let asked = asked.lock().expect("no panic").join("\n");
    assert!(asked.contains("PUT /latest/api/token") && asked.contains("security-credentials/envol"), "{asked}");
    assert_eq!(text(&daemon.json(["status"])["kms"][1], "identity"), "the machine's role");
}

#[test]
fn doctor_looks_at_the_files_that_a_section_names_and_reads_no_secret() {
    let files = Files::new();
    let credentials = files.credentials("AKIAAAAAAAAAAAAAAAAA", SECRET);
    let ca_file = files.path("ca.pem");
    let text = format!("{}ca_file = \"{}\"\n", section(&files, "https://kms.example.com"), ca_file.display());
    let configuration = files.write("envol.toml", text);
    let found = || -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_envol"));
        command.args(["doctor", "--json", "--config"]).arg(&configuration);
        command.arg("--socket").arg(files.path("control.sock")).env("ENVOL_STATE_DIR", files.path("state"));
        let output = command.output().expect("starts");
        assert!(!String::from_utf8_lossy(&output.stdout).contains(SECRET));
        let findings: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        findings.as_array().expect("a list").iter().find(|finding| finding["check"] == "kms").expect("there").clone()
    };
    let missing = found();
    assert_eq!(missing["state"], "missing", "{missing}");
    std::fs::write(&ca_file, "no certificate").expect("written");
    assert!(found()["found"].as_str().is_some_and(|text| text.contains("no certificate is in it")), "{}", found());
    crate::authority::Authority::new().write(&ca_file);
    let fine = found();
    assert_eq!(fine["state"], "fine", "{fine}");
    chmod(&credentials, 0o644);
    let exposed = found();
    assert!(exposed["found"].as_str().is_some_and(|text| text.contains("by others")), "{exposed}");
    chmod(&credentials, 0o600);
    if nix::unistd::geteuid().is_root() {
        // The daemon is somebody else then, who owns its directory.
        let nobody = nix::unistd::User::from_name("nobody").expect("asked").expect("there is one");
        std::fs::create_dir_all(files.path("state")).expect("made");
        nix::unistd::chown(&files.path("state"), Some(nobody.uid), None).expect("root may");
        assert!(found()["found"].as_str().is_some_and(|text| text.contains("cannot be read")), "{}", found());
        chmod(&credentials, 0o640);
        assert_eq!(found()["state"], "missing", "it is another group's");
        nix::unistd::chown(&credentials, None, Some(nobody.gid)).expect("root may");
        assert_eq!(found()["state"], "fine", "{}", found());
        chmod(&credentials, 0o600);
        nix::unistd::chown(&credentials, Some(nobody.uid), None).expect("root may");
        assert_eq!(found()["state"], "fine", "{}", found());
    }
    std::fs::remove_file(&credentials).expect("there");
    assert_eq!(found()["state"], "missing");
}
