//! A store as it is at one moment, and its copy, which is written while everything goes on.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use redb::{
    Builder, Key, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableHandle, UntypedTableHandle,
    Value, WriteTransaction,
};

use super::{
    ACCESS_KEYS, ALIASES, DOCUMENTS, FILE, GRANT_INDEX, GRANTS, KEYS, LAST_USES, META, POLICIES, Store, StoreError,
    TOKENS,
};
use crate::limits;

/// What a store held when it was looked at; changes since then are not seen.
pub(in crate::kms::embedded) struct Snapshot(ReadTransaction);

impl Store {
    /// As of the last change that returned.
    pub(in crate::kms::embedded) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(Snapshot(self.0.begin_read()?))
    }
}

impl Snapshot {
    /// Makes a store in `dir`, which has none, of what this one held.
    pub(in crate::kms::embedded) fn write(&self, dir: &Path) -> Result<(), StoreError> {
        let path = dir.join(FILE);
        let database = Builder::new().set_cache_size(limits::KEY_STORE_CACHE_BYTES).create(&path)?;
        let transaction = database.begin_write()?;
        self.copy(&transaction, META)?;
        self.copy(&transaction, KEYS)?;
        self.copy(&transaction, TOKENS)?;
        self.copy(&transaction, ALIASES)?;
        self.copy(&transaction, ACCESS_KEYS)?;
        self.copy(&transaction, LAST_USES)?;
        self.copy(&transaction, POLICIES)?;
        self.copy(&transaction, GRANTS)?;
        self.copy(&transaction, GRANT_INDEX)?;
        self.copy(&transaction, DOCUMENTS)?;
        // A table that nobody thought of here would be missed when the copy is all that is left.
        if names(self.0.list_tables()?) != names(transaction.list_tables()?) {
            return Err(StoreError::Foreign);
        }
        transaction.commit()?;
        database.close()?;
        File::open(&path)?.sync_all()?;
        Ok(())
    }

    fn copy<K, V>(&self, to: &WriteTransaction, table: TableDefinition<'_, K, V>) -> Result<(), StoreError>
    where
        K: Key + 'static,
        V: Value + 'static,
    {
        let mut copy = to.open_table(table)?;
        for entry in self.0.open_table(table)?.iter()? {
            let (key, value) = entry?;
            copy.insert(key.value().borrow(), value.value().borrow())?;
        }
        Ok(())
    }
}

fn names(tables: impl Iterator<Item = UntypedTableHandle>) -> BTreeSet<String> {
    tables.map(|table| table.name().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::embedded::Identity;
    use crate::kms::embedded::store::Lookup;
    use std::fs;

    fn tables(store: &Store) -> BTreeSet<String> {
        names(store.0.begin_read().expect("read").list_tables().expect("listed"))
    }

    #[test]
    fn a_copy_has_every_table_and_what_was_there_at_that_moment() {
        let (place, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let identity = Identity { account: "000000000000".to_owned(), region: "us-east-1".to_owned() };
        let store = Store::open(place.path(), &identity, Some(&[7; 32])).expect("made");
        let key = uuid::Uuid::nil();
        let put = |name: &str| store.change(|tables| tables.put_alias(name, key)).expect("changed");
        store.change(|tables| tables.put_policy(key, "a policy")).expect("changed");
        store.change(|tables| tables.put_document("identities", "a document")).expect("changed");
        store
            .change(|tables| tables.grants.insert([3; 48], &b"a grant"[..]).map(drop).map_err(StoreError::from))
            .expect("changed");
        put("alias/before");
        let snapshot = store.snapshot().expect("looked at");
        put("alias/after");
        snapshot.write(other.path()).expect("written");
        let copy = Store::open(other.path(), &identity, Some(&[7; 32])).expect("a store");
        assert_eq!(tables(&copy), tables(&store));
        let view = copy.view().expect("read");
        let names: Vec<String> = view.all_aliases().expect("read").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["alias/before"]);
        assert_eq!(view.policy(key).expect("read").as_deref(), Some("a policy"));
        assert_eq!(view.document("identities").expect("read").as_deref(), Some("a document"));
        assert_eq!(view.grant(&[3; 48]).expect("read").as_deref(), Some(&b"a grant"[..]));
        assert!(fs::read_dir(other.path()).expect("there").count() == 1, "nothing else is left there");
    }
}
