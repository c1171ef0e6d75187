//! Access keys of the KMS.

use super::table::{Cell, Table};
use crate::control::api::{AccessKey, NewAccessKey};

/// `kms access-key create`.
pub(crate) fn access_key_card(key: &NewAccessKey) -> String {
    let mut table = Table::new();
    table.pair("access_key_id", Cell::new(&key.access_key_id));
    table.pair("secret_access_key", Cell::new(&key.secret_access_key));
    table.pair("user", Cell::new(&key.user));
    table.render()
}

/// `kms access-key list`.
pub(crate) fn access_key_list(keys: &[AccessKey]) -> String {
    if keys.is_empty() {
        return "No access keys yet. Make one with: envol kms access-key create --user root\n".to_owned();
    }
    let mut table = Table::headed(&["ACCESS KEY", "USER", "CREATED"]);
    for key in keys {
        table.row(vec![Cell::new(&key.access_key_id), Cell::new(&key.user), Cell::new(&key.created)]);
    }
    table.render()
}
