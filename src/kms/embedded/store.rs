//! The store: keys, materials, aliases and access keys in one transactional file, durable when a change returns.
//!
//! ```text
//! meta       name -> bytes          format, schema, check value of the domain key, account, region
//! keys       key id -> KeyRecord as JSON
//! tokens     key id | material id -> token (sealed under the domain key; root material is nowhere in clear)
//! aliases    alias/NAME -> key id
//! last uses  key id -> LastUse as JSON; meta says how far in the audit log they go
//! access     access key id -> AccessKeyRecord as JSON (its secret sealed under the domain key)
//! policies   key id -> the text of its policy, where it is not the default one
//! grants     key id | grant id -> GrantRecord as JSON
//! grant index  digest of what grants are looked up by | grant id -> key id (`grants` says by what)
//! documents  name -> text: the identities
//! ```
//! A change is one write transaction: whole and on disk once it returns, or not there at all. Readers see a snapshot.
//! The file is made under another name and renamed when complete, so that a torn one is never found under its own.
//! Every page's checksum is verified at opening. What the records mean is `keys`' matter.

mod copy;

pub(super) use copy::Snapshot;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::Path;

use redb::{
    Builder, Database, DatabaseError, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, Table,
    TableDefinition, WriteTransaction,
};
use uuid::Uuid;

use crate::limits;

use super::Identity;
use super::access_keys::AccessKeyRecord;
use super::hsm::{MaterialId, TOKEN_BYTES};
use super::keys::KeyRecord;
use super::last_use::LastUse;

const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
const KEYS: TableDefinition<'static, [u8; 16], &[u8]> = TableDefinition::new("keys");
const TOKENS: TableDefinition<'static, [u8; 48], &[u8]> = TableDefinition::new("tokens");
/// As schema 2 had them, when all tokens were of one length.
const MATERIALS: TableDefinition<'static, [u8; 48], [u8; TOKEN_BYTES]> = TableDefinition::new("materials");
const ALIASES: TableDefinition<'static, &str, [u8; 16]> = TableDefinition::new("aliases");

const ACCESS_KEYS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("access keys");
const POLICIES: TableDefinition<'static, [u8; 16], &[u8]> = TableDefinition::new("policies");
const GRANTS: TableDefinition<'static, [u8; 48], &[u8]> = TableDefinition::new("grants");
const GRANT_INDEX: TableDefinition<'static, [u8; 48], &[u8]> = TableDefinition::new("grant index");
const DOCUMENTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("documents");
const LAST_USES: TableDefinition<'static, [u8; 16], &[u8]> = TableDefinition::new("last uses");
/// How far in the audit log the last uses go.
const USES_UNTIL: &str = "last uses until";

/// The name under which a store keeps what tells its domain key.
const CHECK_VALUE: &str = "domain key check";

const FILE: &str = "keys.redb";
const UNFINISHED: &str = "keys.redb.new";
const FORMAT: &[u8] = b"envol embedded KMS store";
/// The newest schema that this program reads and the one it writes.
///
/// 2 has access keys, and tags and rotation in the records of keys; 3 has tokens of several lengths, and last uses; 4
/// has key pairs, policies, grants and documents.
const SCHEMA: u32 = 4;

/// The store cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed: storage, or damage that its checksums found.
    #[error("the key store failed")]
    Database(#[from] redb::Error),
    /// A file operation failed.
    #[error("the key store's file failed")]
    File(#[from] io::Error),
    /// A record that this program did not write.
    #[error("a record in the key store is damaged")]
    Record(#[from] serde_json::Error),
    /// A key without the token of one of its materials.
    #[error("the key store lacks the material of a key that it holds")]
    MaterialMissing,
    /// A grant to somebody who cannot be one.
    #[error("a grant in the key store is damaged")]
    Grant,
    /// Another process has it open.
    #[error("another process has the key store open")]
    InUse,
    /// Not a store of this program.
    #[error("the file is not a key store of envol")]
    Foreign,
    /// A newer program wrote it.
    #[error("the key store has schema {found}, and this program reads up to {SCHEMA}: use a newer envol")]
    Newer {
        /// The schema found.
        found: u32,
    },
    /// It was made for another account or region.
    #[error("the key store belongs to account {account} in {region}, not to the configured one")]
    OtherIdentity {
        /// The account that it was made for.
        account: String,
        /// The region that it was made for.
        region: String,
    },
    /// There is no store yet, and no HSM that could make a key for it.
    #[error("there is no key store there yet, and none is made while the HSM is zeroized")]
    NoHsm,
    /// Its tokens are sealed under another domain key.
    #[error("the domain key is not the one under which this key store was made")]
    OtherDomainKey,
}

/// Every error of redb ends up as its one umbrella.
macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Database(error.into())
            }
        }
    )*};
}
from_redb!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::InUse,
            error => Self::Database(error.into()),
        }
    }
}

/// The open store.
pub(super) struct Store(Database);

/// The tables, of a snapshot or of a change.
pub(super) struct Tables<K, M, A, C> {
    keys: K,
    pub(super) policies: K,
    tokens: M,
    pub(super) grants: M,
    pub(super) grant_index: M,
    aliases: A,
    access_keys: C,
    pub(super) documents: C,
}

/// The tables of a snapshot.
pub(super) type View = Tables<
    ReadOnlyTable<[u8; 16], &'static [u8]>,
    ReadOnlyTable<[u8; 48], &'static [u8]>,
    ReadOnlyTable<&'static str, [u8; 16]>,
    ReadOnlyTable<&'static str, &'static [u8]>,
>;

/// The tables of a change that is not committed.
pub(super) type Change<'t> = Tables<
    Table<'t, [u8; 16], &'static [u8]>,
    Table<'t, [u8; 48], &'static [u8]>,
    Table<'t, &'static str, [u8; 16]>,
    Table<'t, &'static str, &'static [u8]>,
>;

/// What both can tell.
pub(super) trait Lookup {
    /// The record of a key.
    fn key(&self, id: Uuid) -> Result<Option<KeyRecord>, StoreError>;
    /// Every key.
    fn all_keys(&self) -> Result<Vec<(Uuid, KeyRecord)>, StoreError>;
    /// The token of a material.
    fn token(&self, key: Uuid, material: MaterialId) -> Result<Option<Vec<u8>>, StoreError>;
    /// The key that an alias points to.
    fn alias(&self, name: &str) -> Result<Option<Uuid>, StoreError>;
    /// Every alias, sorted by name.
    fn all_aliases(&self) -> Result<Vec<(String, Uuid)>, StoreError>;
    /// The first `count` keys behind `place`, by id.
    fn keys_behind(&self, place: Option<Uuid>, count: usize) -> Result<Vec<Uuid>, StoreError>;
    /// The record of an access key.
    fn access_key(&self, id: &str) -> Result<Option<AccessKeyRecord>, StoreError>;
    /// Every access key, sorted by id.
    fn all_access_keys(&self) -> Result<Vec<(String, AccessKeyRecord)>, StoreError>;
    /// The text of a key's policy, where it is not the default one.
    fn policy(&self, key: Uuid) -> Result<Option<String>, StoreError>;
    /// A document.
    fn document(&self, name: &str) -> Result<Option<String>, StoreError>;
    /// A grant's record, as it is written.
    fn grant(&self, place: &[u8; 48]) -> Result<Option<Vec<u8>>, StoreError>;
    /// The first `count` grants of a key behind the grant `behind`, by id, as they are written.
    fn grants_behind(&self, key: Uuid, behind: Option<[u8; 32]>, count: usize) -> Result<Vec<GrantRow>, StoreError>;
    /// What the index of grants has under `digest`: grants, each with its key; behind the grant `behind`, `count` at the most.
    fn indexed(&self, digest: &[u8; 16], behind: Option<[u8; 32]>, count: usize) -> Result<Vec<GrantRow>, StoreError>;
}

/// The id of a grant, and what is written there.
pub(super) type GrantRow = ([u8; 32], Vec<u8>);

/// Whether `dir` holds a store.
pub(super) fn exists(dir: &Path) -> Result<bool, io::Error> {
    dir.join(FILE).try_exists()
}

/// Refuses a domain key that is not that of the store in `dir`, by its check value.
pub(super) fn judge_domain_key(dir: &Path, check_value: &[u8; 32]) -> Result<(), StoreError> {
    let path = dir.join(FILE);
    if !path.try_exists()? {
        return Err(StoreError::Foreign);
    }
    let store = Store(Builder::new().set_cache_size(limits::KEY_STORE_CACHE_BYTES).open(&path)?);
    if store.check_value()? == *check_value { Ok(()) } else { Err(StoreError::OtherDomainKey) }
}

impl Store {
    /// Opens the store in `dir`, or makes it.
    ///
    /// Without the HSM's `check_value`, whether the store belongs to the HSM is not known, and none is made.
    pub(super) fn open(dir: &Path, identity: &Identity, check_value: Option<&[u8; 32]>) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        if !path.try_exists()? {
            make(dir, identity, check_value.ok_or(StoreError::NoHsm)?)?;
        }
        let database = Builder::new()
            .set_cache_size(limits::KEY_STORE_CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .open(&path)?;
        let store = Self(database);
        if store.judge_meta(identity, check_value)? < SCHEMA {
            store.bring_up_to_date()?;
        }
        Ok(store)
    }

    /// Takes a store of an older program to the newest schema; what its records lack has a default.
    fn bring_up_to_date(&self) -> Result<(), StoreError> {
        let transaction = self.0.begin_write()?;
        transaction.open_table(ACCESS_KEYS)?;
        transaction.open_table(LAST_USES)?;
        open_new_tables(&transaction)?;
        {
            let mut tokens = transaction.open_table(TOKENS)?;
            for entry in transaction.open_table(MATERIALS)?.iter()? {
                let (place, token) = entry?;
                tokens.insert(place.value(), token.value().as_slice())?;
            }
        }
        transaction.delete_table(MATERIALS)?;
        transaction.open_table(META)?.insert("schema", SCHEMA.to_be_bytes().as_slice())?;
        transaction.commit()?;
        Ok(())
    }

    /// Refuses a store that is not this one's; answers its schema.
    fn judge_meta(&self, identity: &Identity, check_value: Option<&[u8; 32]>) -> Result<u32, StoreError> {
        let snapshot = self.0.begin_read()?;
        let meta = snapshot.open_table(META).map_err(|error| match error {
            redb::TableError::TableDoesNotExist(_) => StoreError::Foreign,
            error => error.into(),
        })?;
        let bytes = |name: &str| -> Result<Vec<u8>, StoreError> {
            meta.get(name)?.map(|value| value.value().to_vec()).ok_or(StoreError::Foreign)
        };
        let text = |name: &str| String::from_utf8(bytes(name)?).map_err(|_| StoreError::Foreign);
        if bytes("format")? != FORMAT {
            return Err(StoreError::Foreign);
        }
        let schema = bytes("schema")?.try_into().map(u32::from_be_bytes).map_err(|_| StoreError::Foreign)?;
        if schema > SCHEMA {
            return Err(StoreError::Newer { found: schema });
        }
        let found = bytes(CHECK_VALUE)?;
        if check_value.is_some_and(|expected| found != expected) {
            return Err(StoreError::OtherDomainKey);
        }
        let (account, region) = (text("account")?, text("region")?);
        if account != identity.account || region != identity.region {
            return Err(StoreError::OtherIdentity { account, region });
        }
        Ok(schema)
    }

    /// What an HSM with the domain key of this store answers.
    pub(super) fn check_value(&self) -> Result<[u8; 32], StoreError> {
        let meta = self.0.begin_read()?.open_table(META)?;
        let value = meta.get(CHECK_VALUE)?.ok_or(StoreError::Foreign)?;
        value.value().try_into().map_err(|_| StoreError::Foreign)
    }

    /// A snapshot, as of the last change that returned.
    pub(super) fn view(&self) -> Result<View, StoreError> {
        let snapshot: ReadTransaction = self.0.begin_read()?;
        Ok(Tables {
            keys: snapshot.open_table(KEYS)?,
            policies: snapshot.open_table(POLICIES)?,
            tokens: snapshot.open_table(TOKENS)?,
            grants: snapshot.open_table(GRANTS)?,
            grant_index: snapshot.open_table(GRANT_INDEX)?,
            aliases: snapshot.open_table(ALIASES)?,
            access_keys: snapshot.open_table(ACCESS_KEYS)?,
            documents: snapshot.open_table(DOCUMENTS)?,
        })
    }

    /// Makes a change: durable if `work` succeeds and this returns `Ok`, otherwise undone.
    pub(super) fn change<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&mut Change<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = self.0.begin_write().map_err(StoreError::from)?;
        let outcome = {
            let mut tables = tables_of(&transaction)?;
            work(&mut tables)?
        };
        // redb's durability is `Immediate` unless it is told otherwise: the commit returns after its fsync.
        transaction.commit().map_err(StoreError::from)?;
        Ok(outcome)
    }
}

impl Store {
    /// The last uses as they were last written, and how far in the audit log they go.
    pub(super) fn last_uses(&self) -> Result<(HashMap<Uuid, LastUse>, u64), StoreError> {
        let snapshot = self.0.begin_read()?;
        let until = snapshot.open_table(META)?.get(USES_UNTIL)?.and_then(|value| value.value().try_into().ok());
        let entries = snapshot.open_table(LAST_USES)?;
        let uses = entries.iter()?.map(|entry| {
            let (key, used) = entry?;
            Ok((Uuid::from_bytes(key.value()), serde_json::from_slice(used.value())?))
        });
        Ok((uses.collect::<Result<_, StoreError>>()?, until.map_or(0, u64::from_be_bytes)))
    }

    /// Writes the last uses, and how far in the audit log they go.
    pub(super) fn put_last_uses(&self, uses: &[(Uuid, LastUse)], until: u64) -> Result<(), StoreError> {
        let transaction = self.0.begin_write()?;
        {
            let mut table = transaction.open_table(LAST_USES)?;
            table.retain(|_, _| false)?;
            for (key, used) in uses {
                table.insert(key.into_bytes(), serde_json::to_vec(used)?.as_slice())?;
            }
            transaction.open_table(META)?.insert(USES_UNTIL, until.to_be_bytes().as_slice())?;
        }
        transaction.commit()?;
        Ok(())
    }
}

/// Makes what schema 4 has and those before it have not.
fn open_new_tables(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(POLICIES)?;
    transaction.open_table(GRANTS)?;
    transaction.open_table(GRANT_INDEX)?;
    transaction.open_table(DOCUMENTS)?;
    Ok(())
}

fn tables_of(transaction: &WriteTransaction) -> Result<Change<'_>, StoreError> {
    Ok(Tables {
        keys: transaction.open_table(KEYS)?,
        policies: transaction.open_table(POLICIES)?,
        tokens: transaction.open_table(TOKENS)?,
        grants: transaction.open_table(GRANTS)?,
        grant_index: transaction.open_table(GRANT_INDEX)?,
        aliases: transaction.open_table(ALIASES)?,
        access_keys: transaction.open_table(ACCESS_KEYS)?,
        documents: transaction.open_table(DOCUMENTS)?,
    })
}

/// Makes a store under a passing name, and gives it its own when all of it is on disk.
fn make(dir: &Path, identity: &Identity, check_value: &[u8; 32]) -> Result<(), StoreError> {
    let unfinished = dir.join(UNFINISHED);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let database = Builder::new().set_cache_size(limits::KEY_STORE_CACHE_BYTES).create(&unfinished)?;
    let transaction: WriteTransaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("schema", SCHEMA.to_be_bytes().as_slice())?;
        meta.insert(CHECK_VALUE, check_value.as_slice())?;
        meta.insert("account", identity.account.as_bytes())?;
        meta.insert("region", identity.region.as_bytes())?;
        transaction.open_table(KEYS)?;
        transaction.open_table(TOKENS)?;
        transaction.open_table(LAST_USES)?;
        transaction.open_table(ALIASES)?;
        transaction.open_table(ACCESS_KEYS)?;
        open_new_tables(&transaction)?;
    }
    transaction.commit()?;
    database.close()?;
    File::open(&unfinished)?.sync_all()?;
    fs::rename(&unfinished, dir.join(FILE))?;
    File::open(dir)?.sync_all()?;
    Ok(())
}

impl<K, M, A, C> Lookup for Tables<K, M, A, C>
where
    K: ReadableTable<[u8; 16], &'static [u8]>,
    M: ReadableTable<[u8; 48], &'static [u8]>,
    A: ReadableTable<&'static str, [u8; 16]>,
    C: ReadableTable<&'static str, &'static [u8]>,
{
    fn key(&self, id: Uuid) -> Result<Option<KeyRecord>, StoreError> {
        let value = self.keys.get(id.into_bytes())?;
        value.map(|value| serde_json::from_slice(value.value()).map_err(StoreError::from)).transpose()
    }

    fn all_keys(&self) -> Result<Vec<(Uuid, KeyRecord)>, StoreError> {
        let entries = self.keys.iter()?.map(|entry| {
            let (id, record) = entry?;
            Ok((Uuid::from_bytes(id.value()), serde_json::from_slice(record.value())?))
        });
        entries.collect()
    }

    fn token(&self, key: Uuid, material: MaterialId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tokens.get(material_place(key, material))?.map(|token| token.value().to_vec()))
    }

    fn alias(&self, name: &str) -> Result<Option<Uuid>, StoreError> {
        Ok(self.aliases.get(name)?.map(|id| Uuid::from_bytes(id.value())))
    }

    fn all_aliases(&self) -> Result<Vec<(String, Uuid)>, StoreError> {
        let entries = self.aliases.iter()?.map(|entry| {
            let (name, id) = entry?;
            Ok((name.value().to_owned(), Uuid::from_bytes(id.value())))
        });
        entries.collect()
    }

    fn keys_behind(&self, place: Option<Uuid>, count: usize) -> Result<Vec<Uuid>, StoreError> {
        let from = place.map_or(Bound::Unbounded, |place| Bound::Excluded(place.into_bytes()));
        let entries = self.keys.range::<[u8; 16]>((from, Bound::Unbounded))?.take(count);
        entries.map(|entry| Ok(Uuid::from_bytes(entry?.0.value()))).collect()
    }

    fn access_key(&self, id: &str) -> Result<Option<AccessKeyRecord>, StoreError> {
        let value = self.access_keys.get(id)?;
        value.map(|value| serde_json::from_slice(value.value()).map_err(StoreError::from)).transpose()
    }

    fn all_access_keys(&self) -> Result<Vec<(String, AccessKeyRecord)>, StoreError> {
        let entries = self.access_keys.iter()?.map(|entry| {
            let (id, record) = entry?;
            Ok((id.value().to_owned(), serde_json::from_slice(record.value())?))
        });
        entries.collect()
    }

    fn policy(&self, key: Uuid) -> Result<Option<String>, StoreError> {
        Ok(self.policies.get(key.into_bytes())?.map(|text| String::from_utf8_lossy(text.value()).into_owned()))
    }

    fn document(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.documents.get(name)?.map(|text| String::from_utf8_lossy(text.value()).into_owned()))
    }

    fn grant(&self, place: &[u8; 48]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.grants.get(place)?.map(|record| record.value().to_vec()))
    }

    fn grants_behind(&self, key: Uuid, behind: Option<[u8; 32]>, count: usize) -> Result<Vec<GrantRow>, StoreError> {
        rows(&self.grants, key.as_bytes(), behind, count)
    }

    fn indexed(&self, digest: &[u8; 16], behind: Option<[u8; 32]>, count: usize) -> Result<Vec<GrantRow>, StoreError> {
        rows(&self.grant_index, digest, behind, count)
    }
}

/// The first `count` rows of `table` whose places begin with `prefix`, behind the grant `behind`.
fn rows(
    table: &impl ReadableTable<[u8; 48], &'static [u8]>,
    prefix: &[u8; 16],
    behind: Option<[u8; 32]>,
    count: usize,
) -> Result<Vec<GrantRow>, StoreError> {
    let from = match behind {
        None => Bound::Included(grant_place(prefix, &[0; 32])),
        Some(behind) => Bound::Excluded(grant_place(prefix, &behind)),
    };
    let entries = table.range::<[u8; 48]>((from, Bound::Included(grant_place(prefix, &[0xff; 32]))))?.take(count);
    let rows = entries.map(|entry| {
        let (place, value) = entry?;
        let id = place.value()[16..].try_into().expect("what is left of 48 bytes behind 16");
        Ok((id, value.value().to_vec()))
    });
    rows.collect()
}

/// Where a grant stands below a key's id or a digest.
pub(super) fn grant_place(prefix: &[u8; 16], grant: &[u8; 32]) -> [u8; 48] {
    let mut place = [0; 48];
    place[..16].copy_from_slice(prefix);
    place[16..].copy_from_slice(grant);
    place
}

impl Change<'_> {
    /// Writes the record of a key.
    pub(super) fn put_key(&mut self, id: Uuid, record: &KeyRecord) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(record)?;
        self.keys.insert(id.into_bytes(), bytes.as_slice())?;
        Ok(())
    }

    /// Writes the token of a material.
    pub(super) fn put_token(&mut self, key: Uuid, material: MaterialId, token: &[u8]) -> Result<(), StoreError> {
        self.tokens.insert(material_place(key, material), token)?;
        Ok(())
    }

    /// Removes the token of a material.
    pub(super) fn remove_token(&mut self, key: Uuid, material: MaterialId) -> Result<(), StoreError> {
        self.tokens.remove(material_place(key, material))?;
        Ok(())
    }

    /// Makes or moves an alias.
    pub(super) fn put_alias(&mut self, name: &str, key: Uuid) -> Result<(), StoreError> {
        self.aliases.insert(name, key.into_bytes())?;
        Ok(())
    }

    /// Removes an alias.
    pub(super) fn remove_alias(&mut self, name: &str) -> Result<(), StoreError> {
        self.aliases.remove(name)?;
        Ok(())
    }

    /// Writes the record of an access key.
    pub(super) fn put_access_key(&mut self, id: &str, record: &AccessKeyRecord) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(record)?;
        self.access_keys.insert(id, bytes.as_slice())?;
        Ok(())
    }

    /// Removes an access key; whether it was there.
    pub(super) fn remove_access_key(&mut self, id: &str) -> Result<bool, StoreError> {
        Ok(self.access_keys.remove(id)?.is_some())
    }

    /// Writes the text of a key's policy.
    pub(super) fn put_policy(&mut self, key: Uuid, text: &str) -> Result<(), StoreError> {
        self.policies.insert(key.into_bytes(), text.as_bytes())?;
        Ok(())
    }

    /// Writes a document.
    pub(super) fn put_document(&mut self, name: &str, text: &str) -> Result<(), StoreError> {
        self.documents.insert(name, text.as_bytes())?;
        Ok(())
    }

    /// Removes a key with its materials, aliases, policy and grants.
    pub(super) fn remove_key(&mut self, id: Uuid) -> Result<(), StoreError> {
        self.keys.remove(id.into_bytes())?;
        self.policies.remove(id.into_bytes())?;
        self.remove_grants(id)?;
        self.tokens.retain(|place, _| place[..16] != *id.as_bytes())?;
        self.aliases.retain(|_, target| target != id.into_bytes())?;
        Ok(())
    }
}

fn material_place(key: Uuid, material: MaterialId) -> [u8; 48] {
    let mut place = [0; 48];
    place[..16].copy_from_slice(key.as_bytes());
    place[16..].copy_from_slice(&material.0);
    place
}
