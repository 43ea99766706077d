//! `sinew.saga.v1` for the admin port: what operators look at, and what they may do to parked sagas.

use crate::{
    definition::Data,
    machine::Phase,
    sagas::{Error, Filter, Saga, Sagas},
    store::LogEntry,
};
use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use sinew_proto::saga::v1 as proto;
use sinew_proto::saga::v1::saga_service_server::{SagaService, SagaServiceServer};
use std::fmt;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// What the contract promises for page_size 0, and at most.
const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 500;

/// The sagas of one kind over gRPC. For admin ports only: whoever reaches it may skip undos.
pub struct Admin<D> {
    sagas: Sagas<D>,
}

impl<D: Data> Sagas<D> {
    /// The service, to be added to the admin port.
    pub fn admin_service(&self) -> SagaServiceServer<Admin<D>> {
        SagaServiceServer::new(Admin { sagas: self.clone() })
    }
}

impl<D> fmt::Debug for Admin<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Admin").field(&self.sagas).finish()
    }
}

#[tonic::async_trait]
impl<D: Data> SagaService for Admin<D> {
    async fn list_sagas(&self, request: Request<proto::ListSagasRequest>) -> Result<Response<proto::ListSagasResponse>, Status> {
        let request = request.into_inner();
        let filter = filter(request.state)?;
        let size = match usize::try_from(request.page_size) {
            Ok(0) => DEFAULT_PAGE,
            Ok(size) if size <= MAX_PAGE => size,
            _ => return Err(Status::invalid_argument(format!("page_size: must be 0 to {MAX_PAGE}"))),
        };
        let before = match &*request.page_token {
            "" => None,
            token => Some(id("page_token", token)?),
        };
        // One more than asked for tells whether a page follows.
        let limit = i64::try_from(size + 1).unwrap_or(i64::MAX);
        let mut found = self.sagas.list(filter, before, limit).await?;
        let more = found.len() > size;
        found.truncate(size);
        let next_page_token = found.last().filter(|_| more).map(|last| last.id.to_string()).unwrap_or_default();
        Ok(Response::new(proto::ListSagasResponse { sagas: found.iter().map(saga).collect(), next_page_token }))
    }

    async fn get_saga(&self, request: Request<proto::GetSagaRequest>) -> Result<Response<proto::GetSagaResponse>, Status> {
        let (found, log) = self.sagas.get(id("saga_id", &request.get_ref().saga_id)?).await?;
        let history = log.into_iter().map(entry).collect();
        Ok(Response::new(proto::GetSagaResponse { saga: Some(saga(&found)), history }))
    }

    async fn resume_saga(&self, request: Request<proto::ResumeSagaRequest>) -> Result<Response<proto::ResumeSagaResponse>, Status> {
        let request = request.into_inner();
        let resumed = self.sagas.resume(id("saga_id", &request.saga_id)?, &request.note).await?;
        Ok(Response::new(proto::ResumeSagaResponse { saga: Some(saga(&resumed)) }))
    }

    async fn skip_step(&self, request: Request<proto::SkipStepRequest>) -> Result<Response<proto::SkipStepResponse>, Status> {
        let request = request.into_inner();
        let skipped = self.sagas.skip(id("saga_id", &request.saga_id)?, &request.step, &request.note).await?;
        Ok(Response::new(proto::SkipStepResponse { saga: Some(saga(&skipped)) }))
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::NotFound(_) => Self::not_found(message),
            Error::NotParked(_) => Self::failed_precondition(message),
            Error::Sql(error) if error.is_unavailable() => Self::unavailable("the store cannot answer now"),
            Error::Sql(cause) => {
                tracing::error!(%cause, "the store failed");
                Self::internal("the store failed")
            }
            Error::Data { .. } => Self::internal(message),
        }
    }
}

fn id(field: &str, text: &str) -> Result<Uuid, Status> {
    Uuid::try_parse(text).map_err(|_| Status::invalid_argument(format!("{field}: must be a UUID")))
}

fn filter(state: i32) -> Result<Filter, Status> {
    use proto::SagaState as State;
    let state = State::try_from(state).map_err(|_| Status::invalid_argument("state: must be a known state"))?;
    let phase = match state {
        State::Unspecified | State::Parked => None,
        State::Started => Some(Phase::Started),
        State::Processing => Some(Phase::Processing),
        State::Completed => Some(Phase::Completed),
        State::Compensating => Some(Phase::Compensating),
        State::Failed => Some(Phase::Failed),
    };
    Ok(Filter { phase, parked: state == State::Parked })
}

fn saga(saga: &Saga) -> proto::Saga {
    use proto::SagaState as State;
    let state = match saga.state.phase {
        _ if saga.state.parked => State::Parked,
        Phase::Started => State::Started,
        Phase::Processing => State::Processing,
        Phase::Completed => State::Completed,
        Phase::Compensating => State::Compensating,
        Phase::Failed => State::Failed,
    };
    proto::Saga {
        id: saga.id.to_string(),
        definition: saga.kind.clone(),
        definition_version: saga.version.try_into().unwrap_or(i32::MAX),
        state: state.into(),
        step: if saga.state.phase.is_terminal() { String::new() } else { saga.step.to_owned() },
        reason: saga.state.reason.as_ref().map(ToString::to_string).unwrap_or_default(),
        attempts: saga.state.attempt.try_into().unwrap_or(i32::MAX),
        owner: saga.owner.clone().unwrap_or_default(),
        epoch: saga.epoch,
        created_at: Some(timestamp(saga.started)),
        updated_at: Some(timestamp(saga.updated)),
        outputs: saga.outputs.iter().filter(|(_, answer)| !answer.is_null()).map(output).collect(),
    }
}

fn output((step, answer): &(String, serde_json::Value)) -> proto::StepOutput {
    proto::StepOutput { step: step.clone(), json: answer.to_string() }
}

fn entry(entry: LogEntry) -> proto::SagaEntry {
    proto::SagaEntry {
        time: Some(timestamp(entry.at)),
        step: entry.step,
        what: entry.event,
        detail: entry.detail,
        owner: entry.owner.unwrap_or_default(),
    }
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}
