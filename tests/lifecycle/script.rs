//! A KMS that follows a script.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex};

use envol::crypto::random;
use envol::kms::{
    DataKey, DecryptedKey, EncryptionContext, GeneratedKey, KeyArn, KeyName, Kms, KmsError, Principal, WrappedKey,
};
use envol::secret::Secret;

/// What a call is answered.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// The truth.
    Answer,
    /// The truth, but under another key's name.
    WrongKey,
    /// These bytes in place of the data key.
    Give([u8; 64]),
    Fail(KmsError),
    /// Nothing, until [`Scripted::release`]; then the truth.
    Hang,
}

pub(crate) fn refusal(exception: &str, message: &str) -> Act {
    Act::Fail(KmsError::Refused { exception: exception.into(), message: message.into() })
}

pub(crate) fn throttling() -> Act {
    let (exception, message) = ("ThrottlingException".into(), "Rate exceeded".into());
    Act::Fail(KmsError::Throttled { exception, message })
}

pub(crate) fn unreachable() -> Act {
    Act::Fail(KmsError::Unreachable("connection refused".into()))
}

struct Sealed {
    key: KeyArn,
    context: EncryptionContext,
    bytes: [u8; 64],
}

#[derive(Default)]
struct State {
    sealed: BTreeMap<Vec<u8>, Sealed>,
    next: VecDeque<Act>,
    always: Option<Act>,
    decrypts: usize,
    generates: usize,
    inside: usize,
    most_inside: usize,
    releases: usize,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Scripted {
    state: Mutex<State>,
    changed: Condvar,
}

impl Scripted {
    /// The next Decrypts are answered so, one after another; then the truth again.
    pub(crate) fn next(&self, acts: impl IntoIterator<Item = Act>) {
        self.state.lock().expect("no panic").next.extend(acts);
    }

    /// Every call from now on is answered so, where [`Scripted::next`] says nothing else.
    pub(crate) fn always(&self, act: Act) {
        self.state.lock().expect("no panic").always = Some(act);
    }

    /// Lets go of every call that hangs.
    pub(crate) fn release(&self) {
        self.state.lock().expect("no panic").releases += 1;
        self.changed.notify_all();
    }

    /// Decrypts so far.
    pub(crate) fn decrypts(&self) -> usize {
        self.state.lock().expect("no panic").decrypts
    }

    pub(crate) fn generates(&self) -> usize {
        self.state.lock().expect("no panic").generates
    }

    /// The most calls that were ever inside at once.
    pub(crate) fn most_inside(&self) -> usize {
        self.state.lock().expect("no panic").most_inside
    }

    /// Waits until `count` calls are inside.
    pub(crate) fn wait_inside(&self, count: usize) {
        let state = self.state.lock().expect("no panic");
        drop(self.changed.wait_while(state, |state| state.inside < count));
    }

    /// Waits until no call is inside.
    pub(crate) fn wait_idle(&self) {
        let state = self.state.lock().expect("no panic");
        drop(self.changed.wait_while(state, |state| state.inside > 0));
    }

    /// The data keys it has sealed, for those who look for them where they must not be.
    pub(crate) fn data_keys(&self) -> Vec<[u8; 64]> {
        self.state.lock().expect("no panic").sealed.values().map(|sealed| sealed.bytes).collect()
    }

    fn enter(&self) -> Act {
        let mut state = self.state.lock().expect("no panic");
        state.inside += 1;
        state.most_inside = state.most_inside.max(state.inside);
        self.changed.notify_all();
        let act = state.next.pop_front().or_else(|| state.always.clone()).unwrap_or(Act::Answer);
        if matches!(act, Act::Hang) {
            let before = state.releases;
            drop(self.changed.wait_while(state, |state| state.releases == before));
            return Act::Answer;
        }
        act
    }

    fn leave(&self) {
        self.state.lock().expect("no panic").inside -= 1;
        self.changed.notify_all();
    }

    fn open(
        &self,
        act: Act,
        key: &KeyArn,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<DecryptedKey, KmsError> {
        if let Act::Fail(error) = act {
            return Err(error);
        }
        let state = self.state.lock().expect("no panic");
        let sealed =
            state.sealed.get(wrapped.bytes()).filter(|sealed| sealed.context == *context && sealed.key == *key);
        let invalid = || KmsError::Refused { exception: "InvalidCiphertextException".into(), message: String::new() };
        let mut bytes = sealed.ok_or_else(invalid)?.bytes;
        let mut named = key.clone();
        match act {
            Act::Give(other) => bytes = other,
            Act::WrongKey => named = KeyArn::new("arn:aws:kms:us-east-1:000000000000:key/another"),
            _ => (),
        }
        let data_key = DataKey::new(Secret::filled_by(|into| *into = bytes)?);
        Ok(DecryptedKey { data_key, key: named })
    }
}

impl Kms for Scripted {
    fn generate_data_key_without_plaintext(
        &self,
        _caller: &Principal,
        key: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let (mut bytes, mut blob) = ([0; 64], vec![0; 32]);
        random::fill(&mut bytes);
        random::fill(&mut blob);
        let mut state = self.state.lock().expect("no panic");
        state.generates += 1;
        let key = KeyArn::new(format!("arn:aws:kms:us-east-1:000000000000:key/{}", key.as_str().replace('/', "-")));
        state.sealed.insert(blob.clone(), Sealed { key: key.clone(), context: context.clone(), bytes });
        Ok(GeneratedKey { wrapped: WrappedKey::new(blob).expect("32 bytes"), key })
    }

    fn decrypt(
        &self,
        _caller: &Principal,
        key: &KeyArn,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<DecryptedKey, KmsError> {
        self.state.lock().expect("no panic").decrypts += 1;
        let act = self.enter();
        let answer = self.open(act, key, wrapped, context);
        self.leave();
        answer
    }

    fn re_encrypt(
        &self,
        _caller: &Principal,
        (from, wrapped): (&KeyArn, &WrappedKey),
        to: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let act = self.enter();
        let opened = self.open(act, from, wrapped, context);
        self.leave();
        let mut blob = vec![0; 32];
        random::fill(&mut blob);
        let key = KeyArn::new(format!("arn:aws:kms:us-east-1:000000000000:key/{}", to.as_str().replace('/', "-")));
        let sealed = Sealed { key: key.clone(), context: context.clone(), bytes: *opened?.data_key.expose() };
        self.state.lock().expect("no panic").sealed.insert(blob.clone(), sealed);
        Ok(GeneratedKey { wrapped: WrappedKey::new(blob).expect("32 bytes"), key })
    }

    fn encrypt(
        &self,
        _caller: &Principal,
        key: &KeyName,
        data_key: &Arc<DataKey>,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let act = self.enter();
        self.leave();
        if let Act::Fail(error) = act {
            return Err(error);
        }
        let mut blob = vec![0; 32];
        random::fill(&mut blob);
        let key = KeyArn::new(format!("arn:aws:kms:us-east-1:000000000000:key/{}", key.as_str().replace('/', "-")));
        let bytes = if let Act::Give(other) = act { other } else { *data_key.expose() };
        let sealed = Sealed { key: key.clone(), context: context.clone(), bytes };
        self.state.lock().expect("no panic").sealed.insert(blob.clone(), sealed);
        Ok(GeneratedKey { wrapped: WrappedKey::new(blob).expect("32 bytes"), key })
    }
}
