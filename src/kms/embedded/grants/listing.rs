//! The lists of grants.

use uuid::Uuid;

use crate::kms::embedded::admin::{on_key, on_nothing};
use crate::kms::embedded::audit::Call;
use crate::kms::embedded::caller::Caller;
use crate::kms::embedded::lists::{Page, PageOf};
use crate::kms::embedded::operation::Operation;
use crate::kms::embedded::rights::NOTHING;
use crate::kms::embedded::store::Lookup;
use crate::kms::embedded::{Embedded, refusal};
use crate::kms::{KeyArn, KeyName, KmsError};
use crate::limits;
use crate::policy;

use super::Shown;
use super::record::{self, GrantId, GrantRecord, find, hex, of_retiring, unhex};

impl Embedded {
    /// ListGrants: all of a key, or those with an id, or of a grantee.
    ///
    /// # Errors
    /// As AWS.
    pub fn page_of_grants<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &'a KeyName,
        (id, grantee): (Option<&str>, Option<&str>),
        page: &PageOf<'_>,
    ) -> Result<Page<Shown>, KmsError> {
        let call = on_key(caller.into(), Operation::ListGrants, key);
        self.observe(&call, |view, trail| {
            let key = self.resolve_and_admit(view, trail, &call, key)?;
            let wanted_id = id.map(|id| unhex(id).ok_or_else(refusal::invalid_grant_id)).transpose()?;
            let list = key.arn.as_str();
            let mut behind = self.grant_behind(&call, list, page)?;
            let wanted = |id: &GrantId, record: &GrantRecord| {
                wanted_id.is_none_or(|wanted| wanted == *id) && grantee.is_none_or(|grantee| grantee == record.grantee)
            };
            let mut found = Vec::new();
            loop {
                let rows = view.grants_behind(key.id, behind, limits::GRANTS_READ_AT_ONCE)?;
                for (id, bytes) in &rows {
                    let record = record::read(bytes)?;
                    if wanted(id, &record) {
                        found.push((*id, shown(key.arn.clone(), id, record)));
                    }
                }
                behind = rows.last().map(|(id, _)| *id);
                if found.len() > page.limit || behind.is_none() {
                    return self.page(&call, list, page, found);
                }
            }
        })
    }

    /// ListRetirableGrants: those in this region that a principal may retire.
    ///
    /// # Errors
    /// As AWS.
    pub fn page_of_retirable_grants<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        retiring: &str,
        page: &PageOf<'_>,
    ) -> Result<Page<Shown>, KmsError> {
        let call = on_nothing(caller.into(), Operation::ListRetirableGrants);
        self.observe(&call, |view, _| {
            self.authorise(view, &call, "ListRetirableGrants", NOTHING)?;
            let behind = self.grant_behind(&call, retiring, page)?;
            let mut found = Vec::new();
            for (id, key) in view.indexed(&of_retiring(&policy::arn_of(retiring)), behind, page.limit + 1)? {
                let key = Uuid::from_slice(&key).map_err(|error| refusal::internal(&error))?;
                if let Some(record) = find(view, key, &id)? {
                    found.push((id, shown(self.identity.key_arn(key), &id, record)));
                }
            }
            self.page(&call, retiring, page, found)
        })
    }

    /// Behind which grant a page begins.
    fn grant_behind(&self, call: &Call<'_>, list: &str, page: &PageOf<'_>) -> Result<Option<GrantId>, KmsError> {
        let place = self.place(call, list, page)?;
        place.map(|place| unhex(&place).ok_or_else(refusal::invalid_marker)).transpose()
    }

    fn page(
        &self,
        call: &Call<'_>,
        list: &str,
        page: &PageOf<'_>,
        mut found: Vec<(GrantId, Shown)>,
    ) -> Result<Page<Shown>, KmsError> {
        let more = found.len() > page.limit;
        found.truncate(page.limit);
        let last = found.last().filter(|_| more).map(|(id, _)| hex(id));
        let next = last.map(|last| self.marker(call, list, &last)).transpose()?;
        Ok(Page { items: found.into_iter().map(|(_, shown)| shown).collect(), next })
    }
}

fn shown(key: KeyArn, id: &GrantId, record: GrantRecord) -> Shown {
    Shown {
        key,
        id: hex(id),
        name: record.name,
        created: record.created.into(),
        grantee: record.grantee,
        retiring: record.retiring,
        account: format!("arn:aws:iam::{}:root", record.account),
        operations: record.operations,
        constraint: record.constraint.map(Into::into),
    }
}
