//! A component's GET, through the server's broker.

use crate::http::{Http, HttpError};
use engine::{Fetch, Fetched, async_trait};
use futures::StreamExt as _;
use model::id::{CallId, RunId};
use protocol::http::{FetchFailure, FetchFailureKind, FetchRequest};

pub struct ByBroker {
    pub http: Http,
    pub run: RunId,
    pub call: CallId,
}

#[async_trait]
impl Fetch for ByBroker {
    async fn fetch(
        &self,
        method: &str,
        url: &str,
        headers: Vec<(String, String)>,
    ) -> Result<Fetched, FetchFailure> {
        let (run, call) = (self.run.clone(), self.call.clone());
        let request = FetchRequest { run, call, method: method.to_owned(), url: url.to_owned(), headers };
        let (head, body) = self.http.fetch(&request).await?;
        let cut = |error: HttpError| FetchFailure {
            kind: FetchFailureKind::Unreachable,
            message: error.to_string(),
        };
        Ok(Fetched {
            status: head.status,
            headers: head.headers.into_iter().map(|(name, value)| (name, value.into_raw())).collect(),
            body: body.map(move |piece| piece.map_err(cut)).boxed(),
        })
    }
}
