//! The program `envol`: reads its words, hands them on, and ends with the exit code. Under another name it is a part of the
//! daemon that has a process of its own.

use std::process::ExitCode;

use envol::cli::{
    self, Cli, Command, DaemonArgs, Global, KmsBackupArgs, KmsCommand, LogFormat, SealDomainKeyArgs, ServeArgs, Task,
};
use envol::daemon;
use envol::sys::heap::Heap;

#[global_allocator]
static HEAP: Heap = Heap;

fn main() -> ExitCode {
    if let Some(code) = daemon::run_as_named() {
        return code;
    }
    ExitCode::from(match cli::parse() {
        Ok(Cli { global, command: Command::Daemon(args) }) => run_daemon(&global, args),
        Ok(Cli { global, command: Command::Kms(KmsCommand::Serve(args)) }) => run_kms(&global, args),
        Ok(Cli { global, command: Command::Kms(KmsCommand::AccessKey(command)) }) => {
            cli::run(&global, Task::AccessKey(command))
        }
        Ok(Cli { global, command: Command::Kms(KmsCommand::Zeroize(args)) }) => cli::run(&global, Task::Zeroize(args)),
        Ok(Cli { global, command: Command::Kms(KmsCommand::Initialise) }) => cli::run(&global, Task::Initialise),
        Ok(Cli { global, command: Command::Kms(KmsCommand::Backup(args)) }) => run_backup(&global, &args),
        Ok(Cli { global, command: Command::Kms(KmsCommand::Restore(args)) }) => run_restore(&global, &args),
        Ok(Cli { global, command: Command::Kms(KmsCommand::SealDomainKey(args)) }) => run_sealing(&global, &args),
        Ok(Cli { global, command: Command::Doctor }) => run_doctor(&global),
        Ok(Cli { global, command: Command::Task(task) }) => cli::run(&global, task),
        Err(code) => code,
    })
}

/// The daemon is joined to the command line here, since `cli` lies beside `daemon` and knows nothing of it.
fn run_daemon(global: &Global, args: DaemonArgs) -> u8 {
    let options = daemon::Options {
        listen: args.listen,
        insecure_listen: args.insecure_listen,
        kms_listen: args.kms_listen,
        kms_insecure_listen: args.kms_insecure_listen,
        passphrase_file: args.passphrase_file,
        log_format: args.log_format.map(log_format),
        ..options(global)
    };
    finish(global, daemon::run(options))
}

/// The KMS alone is the daemon without volumes.
fn run_kms(global: &Global, args: ServeArgs) -> u8 {
    let options = daemon::Options {
        kms_alone: true,
        kms_listen: args.listen,
        kms_insecure_listen: args.insecure_listen,
        passphrase_file: args.passphrase_file,
        log_format: args.log_format.map(log_format),
        ..options(global)
    };
    finish(global, daemon::run(options))
}

/// Whoever asks for it reads the domain key, which no daemon hands out.
fn run_backup(global: &Global, args: &KmsBackupArgs) -> u8 {
    let options = daemon::Options { passphrase_file: args.domain_passphrase_file.clone(), ..options(global) };
    match daemon::back_up(options, &backup_asked(args)) {
        Ok(done) => {
            let (file, bytes) = (done.file.display(), done.bytes);
            cli::tell(global, &done, &format!("{file} holds the KMS and {}: {bytes} bytes\n", done.domain_key))
        }
        Err(error) => cli::fail(global, &error.problem()),
    }
}

fn run_restore(global: &Global, args: &KmsBackupArgs) -> u8 {
    let options = daemon::Options { passphrase_file: args.domain_passphrase_file.clone(), ..options(global) };
    match daemon::restore(options, &backup_asked(args)) {
        Ok(done) => {
            let text = format!(
                "{} has the KMS of {}; its domain key comes from {}. Next: envol daemon, then envol volume add PATH\n",
                done.state_dir.display(),
                done.file.display(),
                done.domain_key
            );
            cli::tell(global, &done, &text)
        }
        Err(error) => cli::fail(global, &error.problem()),
    }
}

fn run_sealing(global: &Global, args: &SealDomainKeyArgs) -> u8 {
    match daemon::seal_domain_key(options(global), &args.passphrase_file) {
        Ok(done) => {
            let (removed, sealed) = (done.removed.display(), done.domain_key.display());
            let next = format!("Next: envol daemon --passphrase-file {}", done.passphrase_file.display());
            cli::tell(global, &done, &format!("{removed} is gone; its key lies sealed in {sealed}. {next}\n"))
        }
        Err(error) => cli::fail(global, &error.problem()),
    }
}

fn backup_asked(args: &KmsBackupArgs) -> daemon::BackupAsked {
    daemon::BackupAsked { file: args.file.clone(), passphrase_file: args.passphrase_file.clone() }
}

/// What the daemon would be told is known to the daemon's part alone.
fn run_doctor(global: &Global) -> u8 {
    match daemon::wanted(options(global)) {
        Ok(wanted) => cli::doctor(global, &wanted),
        Err(error) => cli::fail(global, &error.problem()),
    }
}

fn options(global: &Global) -> daemon::Options {
    daemon::Options {
        config: global.config.clone(),
        state_dir: global.state_dir.clone(),
        socket: global.socket.clone(),
        ..daemon::Options::default()
    }
}

fn finish(global: &Global, outcome: Result<(), daemon::DaemonError>) -> u8 {
    match outcome {
        Ok(()) => 0,
        Err(error) => cli::fail(global, &error.problem()),
    }
}

fn log_format(asked: LogFormat) -> daemon::LogFormat {
    match asked {
        LogFormat::Human => daemon::LogFormat::Human,
        LogFormat::Json => daemon::LogFormat::Json,
    }
}
