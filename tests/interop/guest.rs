//! A Debian kernel under QEMU, ordered about over its serial line (`guest/build`, `guest/init`).

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::support::must;

/// What the guest's packages are; `have` asks for them.
pub(crate) const NEEDS: &[&str] =
    &["qemu-system-x86_64", "busybox", "cpio", "depmod", "nbd-client", "mkfs.ext4", "e2fsck", "dmsetup", "apt-get"];

/// A running guest; killed when dropped.
pub(crate) struct Guest {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Guest {
    /// Boots with `drives` as /dev/vda, /dev/vdb, ..., read-only and without QEMU's own file locks.
    pub(crate) fn boot(drives: &[PathBuf]) -> Self {
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/guest");
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/guest/build");
        must(Command::new(build).arg(&files));
        let mut command = Command::new("qemu-system-x86_64");
        command.args([
            "-accel",
            "tcg,thread=multi",
            "-machine",
            "q35",
            "-cpu",
            "max",
            "-m",
            "512",
            "-nographic",
            "-no-reboot",
        ]);
        command.args(["-nic", "user,model=virtio-net-pci", "-append", "console=ttyS0 panic=-1 quiet"]);
        command.arg("-kernel").arg(files.join("vmlinuz")).arg("-initrd").arg(files.join("base.cpio"));
        for (number, drive) in drives.iter().enumerate() {
            let path = drive.display();
            command.args([
                "-blockdev",
                &format!("driver=file,node-name=f{number},filename={path},locking=off,read-only=on"),
            ]);
            command.args(["-device", &format!("virtio-blk-pci,drive=f{number}")]);
        }
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("QEMU starts");
        let orders = process.stdin.take().expect("piped");
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        let mut guest = Self { process, orders, answers };
        assert_eq!(guest.answer().1, "ready");
        guest
    }

    /// What was printed up to the next `<<...>>` line, and what stood in it.
    fn answer(&mut self) -> (String, String) {
        let mut printed = String::new();
        loop {
            let mut line = Vec::new();
            let length = self.answers.read_until(b'\n', &mut line).expect("the serial line");
            assert!(length > 0, "the guest ended: {printed}");
            let line = String::from_utf8_lossy(&line).replace('\r', "");
            if let Some((before, rest)) = line.split_once("<<")
                && let Some(inside) = rest.trim_end().strip_suffix(">>")
            {
                return (printed + before, inside.to_owned());
            }
            printed += &line;
        }
    }

    /// Runs one shell line; its exit code and what it printed.
    pub(crate) fn run(&mut self, order: &str) -> (i32, String) {
        assert!(!order.contains('\n'), "an order is one line");
        writeln!(self.orders, "{order}").expect("the serial line");
        let (printed, code) = self.answer();
        (code.parse().expect("an exit code"), printed)
    }

    /// Runs one shell line, which must succeed.
    pub(crate) fn must(&mut self, order: &str) -> String {
        let (code, printed) = self.run(order);
        assert_eq!(code, 0, "in the guest: {order}\n{printed}");
        printed
    }

    /// Runs one shell line, which must fail.
    pub(crate) fn must_fail(&mut self, order: &str) -> String {
        let (code, printed) = self.run(order);
        assert_ne!(code, 0, "in the guest: {order}\n{printed}");
        printed
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
