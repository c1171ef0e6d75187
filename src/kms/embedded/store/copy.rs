//! A store as it is at one moment, and its copy, which is written while everything goes on.

use std::borrow::Borrow;
use std::fs::File;
use std::path::Path;

use redb::{Builder, Key, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, Value, WriteTransaction};

use super::{ACCESS_KEYS, ALIASES, FILE, KEYS, LAST_USES, META, Store, StoreError, TOKENS};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::embedded::Identity;
    use crate::kms::embedded::store::Lookup;
    use redb::TableHandle;
    use std::fs;

    fn tables(store: &Store) -> Vec<String> {
        let snapshot = store.0.begin_read().expect("read");
        let mut names: Vec<String> =
            snapshot.list_tables().expect("listed").map(|table| table.name().to_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_copy_has_every_table_and_what_was_there_at_that_moment() {
        let (place, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let identity = Identity { account: "000000000000".to_owned(), region: "us-east-1".to_owned() };
        let store = Store::open(place.path(), &identity, Some(&[7; 32])).expect("made");
        let put = |name: &str| store.change(|tables| tables.put_alias(name, uuid::Uuid::nil())).expect("changed");
        put("alias/before");
        let snapshot = store.snapshot().expect("looked at");
        put("alias/after");
        snapshot.write(other.path()).expect("written");
        let copy = Store::open(other.path(), &identity, Some(&[7; 32])).expect("a store");
        assert_eq!(tables(&copy), tables(&store));
        let names: Vec<String> =
            copy.view().expect("read").all_aliases().expect("read").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["alias/before"]);
        assert!(fs::read_dir(other.path()).expect("there").count() == 1, "nothing else is left there");
    }
}
