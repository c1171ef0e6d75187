//! What a KMS may do to an attach (reliability.md's table of KMS inputs), and to a volume that is attached: nothing.

use std::time::Duration;

use envol::attach::{AttachError, Force, LookUp, State};
use envol::kms::KmsError;

use crate::script::{Act, refusal, throttling, unreachable};
use crate::world::{World, caller, eventually, volume};

#[test]
fn a_kms_that_never_answers_ends_the_attach_at_its_deadline() {
    let world = World::with(|settings| settings.attach_deadline = Duration::from_millis(300));
    world.create("db");
    world.kms.always(Act::Hang);
    let error = world.attach("db").expect_err("no answer");
    assert!(matches!(error, AttachError::KmsTimeout { .. }), "{error:?}");
    assert_eq!((error.exit_code(), error.code()), (6, "attach.kms.timeout"));
    assert_eq!(world.show("db").state, State::Available);
    world.kms.release();
}

#[test]
fn a_refusal_after_a_try_without_an_answer_is_told_as_the_refusal() {
    let world = World::new();
    world.create("db");
    world.kms.next([Act::Hang, refusal("DisabledException", "k is disabled.")]);
    let error = world.attach("db").expect_err("refused");
    assert_eq!((error.exit_code(), error.code()), (5, "attach.kms.disabled"), "{error:?}");
    world.kms.release();
}

#[test]
fn a_late_success_is_dropped_and_no_volume_appears() {
    let world = World::with(|settings| settings.attach_deadline = Duration::from_millis(200));
    world.create("db");
    world.kms.next([Act::Hang]);
    world.attach("db").expect_err("no answer in time");
    world.kms.wait_inside(1);
    world.kms.release();
    world.kms.wait_idle();
    assert!(!world.is_attached("db"));
    assert_eq!(world.show("db").state, State::Available);
    world.attach("db").expect("the next attach stands on its own");
}

#[test]
fn a_kms_that_throttles_is_asked_again() {
    let world = World::new();
    world.create("db");
    let before = world.kms.decrypts();
    world.kms.next([throttling(), throttling(), unreachable()]);
    world.attach("db").expect("the fourth try is answered");
    assert_eq!(world.kms.decrypts() - before, 4);
}

#[test]
fn a_kms_that_throttles_for_ever_is_reported_as_that() {
    let world = World::with(|settings| settings.attach_deadline = Duration::from_millis(400));
    world.create("db");
    world.kms.always(throttling());
    let error = world.attach("db").expect_err("throttled");
    assert_eq!((error.exit_code(), error.code()), (6, "attach.kms.throttled"));
    assert_eq!(error.kms_exception(), Some("ThrottlingException"));
    world.kms.always(unreachable());
    let error = world.attach("db").expect_err("not reached");
    assert_eq!((error.exit_code(), error.code(), error.kms_exception()), (6, "attach.kms.unreachable", None));
}

#[test]
fn a_refusal_is_not_retried_and_says_in_the_kms_own_words_why() {
    let world = World::new();
    let key = world.create("db").record.key;
    let cases = [
        ("DisabledException", format!("{key} is disabled."), "attach.kms.disabled"),
        ("KMSInvalidStateException", format!("{key} is pending deletion."), "attach.kms.pending_deletion"),
        ("KMSInvalidStateException", format!("{key} is pending import."), "attach.kms.pending_import"),
        ("KMSInvalidStateException", format!("{key} is unavailable."), "attach.kms.unavailable"),
        ("AccessDeniedException", "User: x is not authorized".to_owned(), "attach.kms.access_denied"),
        ("InvalidCiphertextException", String::new(), "attach.kms.invalid_ciphertext"),
        ("IncorrectKeyException", "The key ID in the request".to_owned(), "attach.kms.incorrect_key"),
        ("NotFoundException", format!("Key '{key}' does not exist"), "attach.kms.not_found"),
        ("SomethingNewException", "new".to_owned(), "attach.kms.refused"),
    ];
    for (exception, message, code) in cases {
        let before = world.kms.decrypts();
        world.kms.next([refusal(exception, &message)]);
        let error = world.attach("db").expect_err("refused");
        assert_eq!((error.exit_code(), error.code()), (5, code), "{exception}");
        assert_eq!(error.kms_exception(), Some(exception));
        assert!(!error.remedy().is_empty());
        assert_eq!(world.kms.decrypts() - before, 1, "{exception} is not retried");
        let cause = if message.is_empty() { exception.to_owned() } else { message };
        assert_eq!(world.last_event(), ("attachVolume".into(), "failed".into(), cause.clone()));
        let told = world.show("db").last_refusal.expect("noted");
        assert_eq!((told.cause, told.kms_exception.as_deref(), told.retrying), (cause, Some(exception), false));
    }
    world.attach("db").expect("nothing of it stays");
    assert_eq!(world.show("db").last_refusal, None);
}

#[test]
fn the_remedy_for_a_disabled_key_is_to_enable_it() {
    let world = World::new();
    let key = world.create("db").record.key;
    world.kms.next([refusal("DisabledException", "it is disabled.")]);
    let remedy = world.attach("db").expect_err("refused").remedy();
    assert!(remedy.contains(&format!("envol key enable {key}")), "{remedy}");
}

#[test]
fn an_answer_under_another_keys_name_is_refused() {
    let world = World::new();
    world.create("db");
    world.kms.next([Act::WrongKey]);
    let error = world.attach("db").expect_err("another key");
    assert_eq!((error.exit_code(), error.code()), (7, "attach.kms.bad_answer"));
    assert!(!world.is_attached("db"));
}

#[test]
fn weak_and_foreign_data_keys_are_refused_at_attach_and_at_create() {
    let world = World::new();
    world.create("db");
    let mut halves = [0; 64];
    halves[..32].fill(3);
    halves[32..].fill(3);
    let mut foreign = [7; 64];
    foreign[0] = 8;
    for (what, bytes, at_create) in
        [("zero", [0; 64], true), ("equal halves", halves, true), ("foreign", foreign, false)]
    {
        world.kms.next([Act::Give(bytes)]);
        let error = world.attach("db").expect_err(what);
        assert_eq!((error.exit_code(), error.code()), (7, "attach.kms.bad_answer"), "{what}");
        if at_create {
            world.kms.next([Act::Give(bytes)]);
            let error = world.create_as(crate::world::request("new")).expect_err(what);
            assert_eq!(error.code(), "attach.kms.bad_answer", "{what}");
        }
    }
    world.attach("db").expect("the true key still opens it");
}

#[test]
fn nonsense_is_refused_and_not_retried() {
    let world = World::new();
    world.create("db");
    let before = world.kms.decrypts();
    world.kms.next([Act::Fail(KmsError::BadAnswer("no such length".into()))]);
    assert_eq!(world.attach("db").expect_err("nonsense").exit_code(), 7);
    assert_eq!(world.kms.decrypts() - before, 1);
}

#[test]
fn a_volume_is_detached_while_its_kms_is_down_and_nobody_asks_it() {
    let world = World::new();
    world.create("db");
    world.attach("db").expect("attached");
    world.kms.always(Act::Hang);
    let before = world.kms.decrypts();
    world.write("db", 1);
    assert_eq!(world.read("db"), [1; 8192]);
    world.registry().detach(&volume("db"), Force::Yes).expect("detached");
    assert_eq!(world.kms.decrypts(), before);
    world.kms.release();
}

#[test]
fn many_attaches_at_once_share_a_few_places_and_all_finish() {
    let world = World::with(|settings| settings.attach_deadline = Duration::from_secs(60));
    let names: Vec<String> = (0..24).map(|number| format!("v{number}")).collect();
    names.iter().for_each(|name| drop(world.create(name)));
    world.kms.next(std::iter::repeat_n(throttling(), 20));
    std::thread::scope(|scope| {
        for name in &names {
            let world = &world;
            scope.spawn(move || world.attach(name).expect("attached in the end"));
        }
    });
    assert_eq!(world.registry().attached().len(), names.len());
    assert!(world.kms.most_inside() <= envol::limits::KMS_CALLS_AT_ONCE);
}

#[test]
fn a_rehearsal_says_what_an_attach_would_and_changes_nothing() {
    let world = World::new();
    world.create("db");
    let before = world.show("db").record;
    let rehearse = || world.registry().rehearse(&caller(), &volume("db"), crate::world::WRITABLE);
    rehearse().expect("it would open");
    world.kms.next([refusal("DisabledException", "it is disabled.")]);
    assert_eq!(rehearse().expect_err("it would not").code(), "attach.kms.disabled");
    assert_eq!(world.show("db").record, before);
    assert!(
        matches!(world.registry().look_up("db"), LookUp::Unknown),
        "a rehearsal's refusal is told to its caller only"
    );
    world.attach("db").expect("attached");
    rehearse().expect("an attached volume too");
    eventually("the rehearsal holds nothing", || world.detach("db").is_ok());
}

#[test]
fn sector_keys_are_given_away_only_after_a_fresh_decrypt() {
    let world = World::new();
    world.create("db");
    for attached in [false, true] {
        if attached {
            world.attach("db").expect("attached");
        }
        let before = world.kms.decrypts();
        let exported = world.registry().export_key(&caller(), &volume("db")).expect("exported");
        assert!(exported.table.contains(" crypt aes-xts-plain64 "), "a device-mapper table");
        assert!(exported.warnings.iter().any(|warning| warning.contains("volume fill db")));
        assert_eq!(world.kms.decrypts() - before, 1);
        assert_eq!(world.last_event().0, "exportKey");
        world.kms.next([refusal("DisabledException", "it is disabled.")]);
        let error = world.registry().export_key(&caller(), &volume("db")).err().expect("refused");
        assert_eq!(error.code(), "attach.kms.disabled");
        assert_eq!(world.last_event(), ("exportKey".into(), "failed".into(), "it is disabled.".into()));
    }
}
