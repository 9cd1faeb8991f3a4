//! The routes of the API as typed functions.
//!
//! Owns their paths. Never knows how a request travels.

use super::{Call, Client, ClientError, Events, escape, query};
use crate::api::wire::{
    AllocationView, AppView, DeploymentView, DiffView, DrainRequest, HealthView, InitRequest,
    InitView, JoinRequest, JoinView, LabelsRequest, LeaveRequest, LeaveView, MeshKeysView,
    MoveView, NewTokenView, NodeView, PauseRequest, PeerCheckView, PlanView, RevisionView,
    RollbackRequest, RouteView, RunView, ScaleRequest, ServiceView, SpawnRequest, StatusView,
    TokenRequest, TokenView, WhyView,
};
use hyper::Method;
use serde::de::DeserializeOwned;

/// How a file is deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeployOptions {
    /// It may share no name with what its app runs.
    pub replace: bool,
    /// `SERVICE=REF`, each.
    pub images: Vec<String>,
    /// The hash of the plan that it must be.
    pub plan: Option<String>,
    /// The same for every try of one deploy.
    pub idempotency_key: Option<String>,
}

impl DeployOptions {
    fn call(&self, path: &str, file: String) -> Call {
        let replace = self.replace.then(|| "true".to_owned());
        let mut pairs = vec![("plan", self.plan.clone()), ("replace", replace)];
        pairs.extend(self.images.iter().map(|image| ("image", Some(image.clone()))));
        let call = Call::new(Method::POST, query(path, &pairs)).text(file);
        match &self.idempotency_key {
            Some(key) => call.header("idempotency-key", key.clone()),
            None => call,
        }
    }
}

pub(super) type Answer<T> = Result<T, ClientError>;

impl Client {
    /// `GET /v1/health`.
    pub async fn health(&self) -> Answer<HealthView> {
        self.get("/v1/health").await
    }

    /// `GET /v1/status`.
    pub async fn status(&self) -> Answer<StatusView> {
        self.get("/v1/status").await
    }

    /// `POST /v1/routes/{host}/pause`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn pause(&self, host: &str, request: &PauseRequest) -> Answer<Vec<RouteView>> {
        let path = format!("/v1/routes/{}/pause", escape(host));
        self.call(Call::new(Method::POST, path).json(request)).await
    }

    /// `POST /v1/routes/{host}/resume`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn resume(&self, host: &str) -> Answer<Vec<RouteView>> {
        self.call(Call::new(Method::POST, format!("/v1/routes/{}/resume", escape(host)))).await
    }

    /// `GET /v1/routes`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn routes(&self) -> Answer<Vec<RouteView>> {
        self.get("/v1/routes").await
    }

    /// `POST /v1/init`, on the UNIX socket.
    pub async fn init(&self, request: &InitRequest) -> Answer<InitView> {
        self.call(Call::new(Method::POST, "/v1/init").json(request)).await
    }

    /// `POST /v1/join`, on the UNIX socket. Done when the node is ready.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn join(&self, request: &JoinRequest) -> Answer<JoinView> {
        self.call(Call::new(Method::POST, "/v1/join").json(request).without_timeout()).await
    }

    /// `POST /v1/leave`, on the UNIX socket. The daemon is unclaimed soon after.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn leave(&self, request: &LeaveRequest) -> Answer<LeaveView> {
        self.call(Call::new(Method::POST, "/v1/leave").json(request).without_timeout()).await
    }

    /// `POST /v1/deploy`, followed.
    pub async fn deploy(&self, file: String, options: &DeployOptions) -> Answer<Events> {
        self.events(options.call("/v1/deploy", file)).await
    }

    /// `POST /v1/deploy`, not followed.
    pub async fn deploy_detached(
        &self,
        file: String,
        options: &DeployOptions,
    ) -> Answer<RevisionView> {
        // Tags are resolved before the answer, which takes as long as the registry does.
        self.call(options.call("/v1/deploy", file).without_timeout()).await
    }

    /// `POST /v1/plan`.
    pub async fn plan(&self, file: String, options: &DeployOptions) -> Answer<PlanView> {
        // As patient as a deploy: tags are resolved.
        self.call(options.call("/v1/plan", file).without_timeout()).await
    }

    /// `GET /v1/why/{name}`.
    pub async fn why(&self, name: &str) -> Answer<WhyView> {
        self.get(&format!("/v1/why/{}", escape(name))).await
    }

    /// The path of a deployment's events.
    #[must_use]
    pub fn deployment_events(revision: u64) -> String {
        format!("/v1/deployments/{revision}/events")
    }

    /// `GET /v1/deployments`, newest first, perhaps of one app.
    pub async fn deployments(
        &self,
        app: Option<&str>,
        limit: Option<u32>,
    ) -> Answer<Vec<DeploymentView>> {
        let limit = limit.map(|limit| limit.to_string());
        let pairs = [("limit", limit), ("app", app.map(str::to_owned))];
        self.get(&query("/v1/deployments", &pairs)).await
    }

    /// `GET /v1/deployments/{revision}`.
    pub async fn deployment(&self, revision: u64) -> Answer<DeploymentView> {
        self.get(&format!("/v1/deployments/{revision}")).await
    }

    /// `GET /v1/deployments/{revision}/diff`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn diff(&self, from: u64, to: Option<u64>) -> Answer<DiffView> {
        let to = ("to", to.map(|revision| revision.to_string()));
        self.get(&query(&format!("/v1/deployments/{from}/diff"), &[to])).await
    }

    /// `GET /v1/apps/{app}`.
    pub async fn app(&self, app: &str) -> Answer<AppView> {
        self.get(&format!("/v1/apps/{}", escape(app))).await
    }

    /// `POST /v1/apps/{app}/promote`, or `…/abort`: ends its canaries.
    pub async fn end_canaries(&self, app: &str, promote: bool, key: &str) -> Answer<RevisionView> {
        let what = if promote { "promote" } else { "abort" };
        let call = Call::new(Method::POST, format!("/v1/apps/{}/{what}", escape(app)));
        self.call(call.header("idempotency-key", key)).await
    }

    /// `DELETE /v1/apps/{app}`, if it is that cluster.
    pub async fn delete_app(&self, app: &str, cluster: Option<&str>) -> Answer<RevisionView> {
        let cluster = ("cluster", cluster.map(str::to_owned));
        self.delete(query(&format!("/v1/apps/{}", escape(app)), &[cluster])).await
    }

    /// `GET /v1/services`.
    pub async fn services(&self) -> Answer<Vec<ServiceView>> {
        self.get("/v1/services").await
    }

    /// `GET /v1/services/{name}`.
    pub async fn service(&self, name: &str) -> Answer<ServiceView> {
        self.get(&format!("/v1/services/{}", escape(name))).await
    }

    /// `DELETE /v1/services/{name}`.
    pub async fn delete_service(&self, name: &str) -> Answer<RevisionView> {
        self.delete(format!("/v1/services/{}", escape(name))).await
    }

    /// `POST /v1/services/{name}/scale`.
    pub async fn scale(&self, name: &str, replicas: u32) -> Answer<RevisionView> {
        let path = format!("/v1/services/{}/scale", escape(name));
        self.call(Call::new(Method::POST, path).json(&ScaleRequest { replicas })).await
    }

    /// `POST /v1/rollback`.
    pub async fn rollback(&self, request: &RollbackRequest, key: &str) -> Answer<RevisionView> {
        let call = Call::new(Method::POST, "/v1/rollback").json(request);
        self.call(call.header("idempotency-key", key.to_owned())).await
    }

    /// `POST /v1/services/{name}/restart`.
    pub async fn restart_service(&self, name: &str, key: &str) -> Answer<serde_json::Value> {
        let call = Call::new(Method::POST, format!("/v1/services/{}/restart", escape(name)));
        self.call(call.header("idempotency-key", key)).await
    }

    /// `GET /v1/rebalance`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn rebalance_plan(&self, service: Option<&str>) -> Answer<Vec<MoveView>> {
        self.get(&query("/v1/rebalance", &[("service", service.map(str::to_owned))])).await
    }

    /// `POST /v1/rebalance`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn rebalance(&self, service: Option<&str>, key: &str) -> Answer<Vec<MoveView>> {
        let path = query("/v1/rebalance", &[("service", service.map(str::to_owned))]);
        self.call(Call::new(Method::POST, path).header("idempotency-key", key)).await
    }

    /// `GET /v1/allocations`: also ended ones that are kept.
    pub async fn allocations(&self) -> Answer<Vec<AllocationView>> {
        self.get("/v1/allocations").await
    }

    /// `GET /v1/allocations/{id}`.
    pub async fn allocation(&self, id: &str) -> Answer<AllocationView> {
        self.get(&format!("/v1/allocations/{}", escape(id))).await
    }

    /// `POST /v1/allocations/{id}/restart`.
    pub async fn restart_allocation(&self, id: &str, key: &str) -> Answer<serde_json::Value> {
        let call = Call::new(Method::POST, format!("/v1/allocations/{}/restart", escape(id)));
        self.call(call.header("idempotency-key", key)).await
    }

    /// `GET /v1/tasks`: also runs that are over and kept.
    pub async fn tasks(&self) -> Answer<Vec<RunView>> {
        self.get("/v1/tasks").await
    }

    /// `GET /v1/tasks/{id}`.
    pub async fn task(&self, id: &str) -> Answer<RunView> {
        self.get(&format!("/v1/tasks/{}", escape(id))).await
    }

    /// `POST /v1/tasks`.
    pub async fn spawn_task(&self, request: &SpawnRequest, key: &str) -> Answer<RunView> {
        // A tag is resolved before the answer, which takes as long as the registry does.
        let call = Call::new(Method::POST, "/v1/tasks").json(request).without_timeout();
        self.call(call.header("idempotency-key", key)).await
    }

    /// `DELETE /v1/tasks/{id}`.
    pub async fn kill_task(&self, id: &str) -> Answer<RunView> {
        self.delete(format!("/v1/tasks/{}", escape(id))).await
    }

    /// `GET /v1/mesh/peers`: each node tries the others' ports.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn mesh_peers(&self) -> Answer<Vec<PeerCheckView>> {
        self.call(Call::new(Method::GET, "/v1/mesh/peers").without_timeout()).await
    }

    /// `POST /v1/mesh/rotate`. Done when the nodes that are there have new keys.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn rotate_mesh(&self) -> Answer<MeshKeysView> {
        self.call(Call::new(Method::POST, "/v1/mesh/rotate").without_timeout()).await
    }

    /// `GET /v1/nodes`.
    pub async fn nodes(&self) -> Answer<Vec<NodeView>> {
        self.get("/v1/nodes").await
    }

    /// `GET /v1/nodes/{id}`.
    pub async fn node(&self, name: &str) -> Answer<NodeView> {
        self.get(&format!("/v1/nodes/{}", escape(name))).await
    }

    /// `PATCH /v1/nodes/{id}`.
    pub async fn label(&self, name: &str, request: &LabelsRequest) -> Answer<NodeView> {
        let path = format!("/v1/nodes/{}", escape(name));
        self.call(Call::new(Method::PATCH, path).json(request)).await
    }

    /// `POST /v1/nodes/{id}/drain`.
    pub async fn drain(&self, name: &str, request: &DrainRequest) -> Answer<NodeView> {
        let path = format!("/v1/nodes/{}/drain", escape(name));
        self.call(Call::new(Method::POST, path).json(request)).await
    }

    /// `POST /v1/nodes/{id}/undrain`.
    pub async fn undrain(&self, name: &str) -> Answer<NodeView> {
        let path = format!("/v1/nodes/{}/undrain", escape(name));
        self.call(Call::new(Method::POST, path)).await
    }

    /// `DELETE /v1/nodes/{id}`.
    pub async fn remove_node(&self, name: &str) -> Answer<serde_json::Value> {
        self.delete(format!("/v1/nodes/{}", escape(name))).await
    }

    /// `GET /v1/tokens`.
    pub async fn tokens(&self) -> Answer<Vec<TokenView>> {
        self.get("/v1/tokens").await
    }

    /// `POST /v1/tokens`.
    pub async fn create_token(&self, request: &TokenRequest) -> Answer<NewTokenView> {
        self.call(Call::new(Method::POST, "/v1/tokens").json(request)).await
    }

    /// `DELETE /v1/tokens/{id}`.
    pub async fn revoke_token(&self, id: &str) -> Answer<serde_json::Value> {
        self.delete(format!("/v1/tokens/{}", escape(id))).await
    }

    pub(super) async fn delete<T: DeserializeOwned>(&self, path: String) -> Answer<T> {
        self.call(Call::new(Method::DELETE, path)).await
    }
}
