//! Volumes of somebody else's KMS: moto's server, with a role assumed there on the way.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{command, have, must, python, python_has, random_file};
use crate::world::{Files, create, section, state, text};

/// A moto server; ended when dropped.
struct Moto {
    process: Child,
    endpoint: String,
}

impl Moto {
    fn start() -> Self {
        // Its own program prints no port where it chooses one itself.
        let script = "from moto.server import ThreadedMotoServer\nimport threading\n\
                      server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)\nserver.start()\n\
                      print(server.get_host_and_port()[1], flush=True)\nthreading.Event().wait()\n";
        let mut start = Command::new(python());
        start.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = start.spawn().expect("starts");
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a port");
        Self { process, endpoint: format!("http://127.0.0.1:{}", line.trim()) }
    }

    /// What boto3 says of `expression` about this server's `kms`.
    fn ask(&self, expression: &str) -> String {
        let script = format!(
            "import boto3\nkms = boto3.client('kms', region_name='us-east-1', endpoint_url='{}', \
             aws_access_key_id='testing', aws_secret_access_key='testing')\nprint({expression})",
            self.endpoint
        );
        must(Command::new(python()).args(["-c", &script])).trim_end().to_owned()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_volume_of_a_kms_that_others_wrote_lives_beside_the_embedded_ones() {
    if !python_has(&["moto", "flask", "boto3"]) || !have(&["nbdcopy"]) {
        return;
    }
    let (moto, files) = (Moto::start(), Files::new());
    files.credentials("testing", "testing");
    let key = moto.ask("kms.create_key()['KeyMetadata']['Arn']");
    let alias = format!("kms.create_alias(AliasName='alias/volumes', TargetKeyId='{key}')");
    moto.ask(&alias);
    let role = format!("role = \"arn:aws:iam::123456789012:role/envol\"\nsts_endpoint = \"{}\"\n", moto.endpoint);
    let daemon = files.daemon(&format!("{}{role}", section(&files, &moto.endpoint)));
    let made = create(&daemon, "db", "alias/volumes");
    assert_eq!(text(&made, "kms_key"), key);
    let uri = daemon.attach("db");
    let near = daemon.attached("near", "8M", &[]);
    let file = daemon.path().join("random");
    random_file(&file, 8 << 20);
    for uri in [&uri, &near] {
        must(&mut command(&["nbdcopy", file.to_str().expect("text"), uri]));
    }
    daemon.detach("db");
    same(&daemon.attach("db"), &file);

    // To the embedded KMS and back, attached, and its neighbour the other way round.
    daemon.json(["volume", "rewrap", "db", "--kms", "embedded", "--key", "alias/aws/ebs"]);
    daemon.json(["volume", "rewrap", "near", "--kms", "far", "--key", &key]);
    daemon.json(["volume", "rewrap", "db", "--kms", "far", "--key", &key]);
    daemon.json(["volume", "rewrap", "near", "--key", "alias/volumes"]);
    for name in ["db", "near"] {
        daemon.detach(name);
        same(&daemon.attach(name), &file);
    }

    // A context that is not the volume's: the header of another volume of the same key.
    let missing = daemon.refused(3, ["volume", "create", "x", "--size", "8M", "--kms", "far", "--key", "alias/none"]);
    assert_eq!(text(&missing, "kms_exception"), "NotFoundException");
    drop(moto);
    assert_eq!(state(&daemon, "db"), "in-use", "what is attached does not notice");
    daemon.detach("db");
}

fn same(uri: &str, file: &Path) {
    let back = file.with_extension("back");
    let _ = std::fs::remove_file(&back);
    must(&mut command(&["nbdcopy", uri, back.to_str().expect("text")]));
    assert!(std::fs::read(back).expect("readable") == std::fs::read(file).expect("readable"), "as it was written");
}
