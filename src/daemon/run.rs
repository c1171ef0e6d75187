//! The daemon's life: everything is opened in order, served until a signal says stop, and closed in the other order.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::stat::{Mode, umask};
use sd_notify::NotifyState;
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout_at;
use tracing::{info, warn};

use super::config::{self, Config};
use super::confine::{Confined, confine};
use super::exports::Volumes;
use super::sockets::{Made, Sockets};
use super::state_dir::StateDir;
use super::{DaemonError, Options, backup, logging};
use crate::attach::{EventLog, KmsTable, Registry, Settings};
use crate::block;
use crate::control::{self, About, Admission, NbdListener, Operated, api};
use crate::crypto::xts::Engine;
use crate::kms::Kms;
use crate::kms::aws::{self, Aws};
use crate::kms::embedded::hsm::{Client, DomainKeySource, Parent};
use crate::kms::embedded::{Embedded, Identity, Owned};
use crate::kms::wire;
use crate::nbd::{Bounds, Listener, Server};
use crate::sync::{Arc, Mutex};
use crate::sys::hardening;
use crate::sys::locked::{self, KeyMemory};
use crate::{limits, places};

/// Threads that carry the control API's connections; the operations run on others.
const CONTROL_THREADS: usize = 2;

/// What stopping keeps back, of [`limits::SHUTDOWN_DEADLINE`], for each step after the registry's.
const STEP: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// [`DaemonError`]: the daemon did not start, and nothing of it is left.
pub fn run(options: Options) -> Result<(), DaemonError> {
    let config = Config::load(options)?;
    let cipher = config.settle_cipher()?;
    logging::start(config.log_format);
    say_cipher(cipher);
    umask(Mode::from_bits_truncate(0o077));
    hardening::seal_process().map_err(DaemonError::Seal)?;
    // Before there is a thread or a key here: what it starts later shares nothing with this process.
    let hsm = Parent::start(config.key_memory, config.hardening, &domain_key(&config)).map_err(DaemonError::Hsm)?;
    let callers = start_callers(&config)?;
    choose_key_memory(&config)?;
    // What they name need not be in reach later.
    let tls = config.served.tls.as_ref().map(|(certificate, key)| wire::Tls::load(certificate, key)).transpose()?;
    let confined = confine(&config)?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .max_blocking_threads(2 * limits::CONTROL_CONNECTIONS_MAX)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(DaemonError::Threads)?;
    let mut signals = Signals::new(&runtime).map_err(DaemonError::Threads)?;
    let daemon = Daemon::start(&config, &runtime, Brought { hsm, callers, tls }, &confined)?;
    daemon.say_ready(&config);
    if !config.kms_alone {
        daemon.registry.reattach_wanted();
    }
    runtime.block_on(signals.stop());
    let deadline = Instant::now() + limits::SHUTDOWN_DEADLINE;
    daemon.stop(&runtime, deadline);
    runtime.shutdown_timeout(deadline.saturating_duration_since(Instant::now()).min(STEP));
    info!("stopped");
    Ok(())
}

fn say_cipher(cipher: Engine) {
    info!(%cipher, "sectors are ciphered");
    if !cipher.encrypts() {
        warn!("NOTHING IS ENCRYPTED: this is a build for benchmarks, and its cipher is null. Keep no data in it.");
    }
}

/// Keys lie there from now on; a memory that is not as safe as it could be is told loudly.
fn choose_key_memory(config: &Config) -> Result<(), DaemonError> {
    let asked = config.key_memory;
    let memory = locked::choose(asked).map_err(|source| DaemonError::KeyMemory { asked, source })?;
    info!(%memory, "keys are held");
    if memory == KeyMemory::InsecureUnlocked {
        warn!("KEYS CAN BE SWAPPED: memory cannot be locked, and the configuration says to go on");
    }
    if cfg!(feature = "leave-secrets") {
        warn!("KEYS CAN BE LEFT BEHIND: this is a build for the tests of wiping. Keep no data in it.");
    }
    Ok(())
}

/// The signals that mean something to the daemon.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// From here on, none of them ends the process by itself: a second one does not cut a stop short.
    fn new(runtime: &Runtime) -> io::Result<Self> {
        let _inside = runtime.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the one that says stop.
    async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return info!("stopping: SIGTERM"),
                _ = self.interrupt.recv() => return info!("stopping: SIGINT"),
                _ = self.hang_up.recv() => warn!("SIGHUP is ignored: a changed configuration needs a restart"),
            }
        }
    }
}

/// What was made before the daemon was confined.
struct Brought {
    hsm: Parent,
    callers: Option<Arc<aws::Parent>>,
    tls: Option<wire::Tls>,
}

/// A daemon whose sockets listen.
struct Daemon {
    registry: Arc<Registry>,
    nbd: Arc<Mutex<Option<Server>>>,
    nbd_at: Vec<NbdListener>,
    kms_at: Vec<String>,
    /// The KMS, where it is served in AWS's protocol.
    kms: Option<wire::Server>,
    control: JoinHandle<()>,
    control_made: Option<Made>,
    stop: watch::Sender<bool>,
    /// Last, so that another daemon starts only when all of the above is gone.
    state_dir: StateDir,
}

impl Daemon {
    fn start(config: &Config, runtime: &Runtime, brought: Brought, confined: &Confined) -> Result<Self, DaemonError> {
        let Brought { hsm, callers, tls } = brought;
        let io = block::engine::choose(config.io)?;
        let state_dir = StateDir::claim(&config.state_dir)?;
        backup::refuse_interrupted(config)?;
        backup::clear(&config.state_dir)
            .map_err(|source| DaemonError::StateDir { path: config.state_dir.clone(), source })?;
        let keys = open_keys(config, hsm)?;
        let events = open_events(config)?;
        let registry = Registry::open(settings(config), kmses(config, &keys, callers), Arc::clone(&events))?;
        let Sockets { control, kms, nbd, nbd_at } = Sockets::open(config, tls)?;

        let kms_at: Vec<String> = kms.iter().map(|listener| listener.address().to_string()).collect();
        let kms = (!kms.is_empty()).then(|| wire::Server::start(Arc::clone(&keys), kms, config.served.rehearsal));
        let kms = kms.transpose().map_err(DaemonError::Threads)?;
        let nbd = Arc::new(Mutex::new(serve_nbd(config, nbd, &registry)?));
        let (stop, stopped) = watch::channel(false);
        let operated = Operated {
            registry: Arc::clone(&registry),
            keys,
            events,
            about: About { hardening: confined.shown(), ..about(config, &nbd_at, kms_at.clone(), io) },
            connections: counting(&nbd),
            kms_alone: config.kms_alone,
            stop: stopped,
        };
        let control_made = control.made;
        let listener = in_runtime(runtime, control.listener).map_err(DaemonError::Threads)?;
        let admission = Admission { own_uid: operated.about.own_uid, group: config.group };
        let control = runtime.spawn(control::serve(listener, Arc::new(operated), admission));
        Ok(Self { registry, nbd, nbd_at, kms_at, kms, control, control_made, stop, state_dir })
    }

    fn say_ready(&self, config: &Config) {
        let nbd: Vec<String> = self.nbd_at.iter().map(|at| at.uri("")).collect();
        let kms = self.kms_at.join(" ");
        let io = block::engine::chosen();
        info!(control = %config.socket.display(), nbd = nbd.join(" "), kms, %io, "ready");
        notify(NotifyState::Ready);
    }

    /// Stops everything by `deadline`, whatever is going on.
    fn stop(self, runtime: &Runtime, deadline: Instant) {
        notify(NotifyState::Stopping);
        // The control API first, so that nothing new begins; what has begun there is answered or cut off below.
        self.stop.send_replace(true);
        self.registry.shut_down(deadline - 3 * STEP);
        let nbd = self.nbd.lock().take();
        if let Some(nbd) = nbd {
            let left = nbd.stop(deadline - 2 * STEP);
            if left != 0 {
                warn!(connections = left, "NBD connections were cut off with requests in flight");
            }
        }
        if self.kms.is_some_and(|kms| !kms.stop(deadline - 2 * STEP)) {
            warn!("requests to the KMS were cut off");
        }
        let answered = async { timeout_at((deadline - STEP).into(), self.control).await };
        if runtime.block_on(answered).is_err() {
            warn!("control requests were cut off");
        }
        drop(self.control_made);
        drop(self.state_dir);
    }
}

/// The parent of the processes that call other KMSs, where there are any. It is not confined, so that they can connect.
fn start_callers(config: &Config) -> Result<Option<Arc<aws::Parent>>, DaemonError> {
    if config.aws.is_empty() || config.kms_alone {
        return Ok(None);
    }
    let parent = aws::Parent::start(config.key_memory, config.hardening, &config.aws).map_err(DaemonError::Callers)?;
    Ok(Some(Arc::new(parent)))
}

/// The embedded KMS and the others, by the names of their sections.
fn kmses(config: &Config, keys: &Arc<Embedded>, callers: Option<Arc<aws::Parent>>) -> KmsTable {
    let mut table = KmsTable::new();
    table.insert(config.kms.clone(), Arc::clone(keys) as Arc<dyn Kms>);
    table.insert(config::OWNED.to_owned(), Arc::new(Owned::beside(Arc::clone(keys))));
    if let Some(parent) = callers {
        for name in config.aws.keys() {
            let kms = Aws::new(name.clone(), Arc::clone(&parent));
            table.insert(name.clone(), Arc::new(kms));
        }
    }
    table
}

/// Where the embedded KMS lies.
pub(super) fn kms_dir(config: &Config) -> PathBuf {
    config.state_dir.join("kms")
}

/// Where the domain key comes from: what was asked for, else what the service manager provides, else its file.
pub(super) fn domain_key(config: &Config) -> DomainKeySource {
    if let Some(from) = config.passphrase_file.clone() {
        return DomainKeySource::Passphrase { from, stretching: stretching_file(config) };
    }
    if let Some(path) = places::domain_key_credential() {
        return DomainKeySource::Credential { path };
    }
    DomainKeySource::File { path: domain_key_file(config), store: kms_dir(config) }
}

/// Where the domain key lies, if it lies in a file.
pub(super) fn domain_key_file(config: &Config) -> PathBuf {
    config.state_dir.join("domain.key")
}

/// Where what is made of a passphrase lies, if the domain key comes from one.
pub(super) fn stretching_file(config: &Config) -> PathBuf {
    config.state_dir.join("domain.stretching")
}

fn open_keys(config: &Config, hsm: Parent) -> Result<Arc<Embedded>, DaemonError> {
    let identity = Identity { account: config.account.clone(), region: config.region.clone() };
    let hsm = Client::separate(hsm);
    let keys = Embedded::with_hsm(&kms_dir(config), hsm, identity, Arc::new(SystemTime::now));
    let keys = keys.map(|keys| keys.with_consistency_delay(config.served.consistency_delay));
    keys.map(Arc::new).map_err(DaemonError::Kms)
}

fn open_events(config: &Config) -> Result<Arc<EventLog>, DaemonError> {
    let path = config.state_dir.join("events.ndjson");
    let log = EventLog::open(path.clone(), &config.account, &config.region);
    log.map(Arc::new).map_err(|source| DaemonError::Events { path, source })
}

fn settings(config: &Config) -> Settings {
    Settings {
        state_dir: config.state_dir.clone(),
        volume_dirs: config.volume_dirs.clone(),
        account: config.account.clone(),
        region: config.region.clone(),
        default_kms: config.kms.clone(),
        attach_deadline: config.timings.attach_deadline,
        drain_deadline: config.timings.drain_deadline,
        detach_grace: config.timings.detach_grace,
        dead_connection_window: config.timings.dead_connection_window,
    }
}

/// Attached volumes, served; nothing where this is a KMS alone.
fn serve_nbd(config: &Config, sockets: Vec<Listener>, registry: &Arc<Registry>) -> Result<Option<Server>, DaemonError> {
    if config.kms_alone {
        return Ok(None);
    }
    let volumes = Arc::new(Volumes(Arc::clone(registry)));
    let bounds = Bounds { in_flight: config.in_flight, ..Bounds::default() };
    Server::start_with(sockets, volumes, bounds).map(Some).map_err(DaemonError::Threads)
}

fn about(config: &Config, nbd_at: &[NbdListener], kms_endpoints: Vec<String>, io: block::engine::Engine) -> About {
    About {
        since: SystemTime::now(),
        state_dir: config.state_dir.clone(),
        account: config.account.clone(),
        own_uid: nix::unistd::geteuid().as_raw(),
        listeners: nbd_at.to_vec(),
        kms: shown_kmses(config),
        kms_endpoints,
        domain_key: domain_key(config).to_string(),
        io,
        hardening: api::Hardening::default(),
    }
}

fn shown_kmses(config: &Config) -> Vec<api::Kms> {
    let place = kms_dir(config).display().to_string();
    let mut shown = vec![api::Kms { name: config.kms.clone(), kind: "embedded".to_owned(), place, identity: None }];
    shown.extend(config.aws.iter().map(|(name, settings)| api::Kms {
        name: name.clone(),
        kind: "aws".to_owned(),
        place: settings.place(),
        identity: Some(settings.identity()),
    }));
    shown
}

/// How many NBD connections there are, for as long as the server runs.
fn counting(nbd: &Arc<Mutex<Option<Server>>>) -> Box<dyn Fn() -> u64 + Send + Sync> {
    let nbd = Arc::clone(nbd);
    Box::new(move || nbd.lock().as_ref().map_or(0, |server| server.connections() as u64))
}

fn in_runtime(runtime: &Runtime, listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    let _inside = runtime.enter();
    UnixListener::from_std(listener)
}

/// Tells the service manager, where there is one.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        warn!(%error, "the service manager could not be told");
    }
}
