//! The one conversion of a specification into what is enforced.

use super::{
    AgenticSessionSpec, LlmSettings, Mode, OperatingMode, Posted, Workspace,
    placement::{self, RUNNER_MEMORY_BYTES, ResourceOverrides},
    rules,
};
use crate::{
    Accepted, Invalid, ProcessNetwork, ProjectPolicy, Source,
    invalid::{Problems, named},
};
use model::{
    event::Warning, grant::PermissionMode, id::PluginId, limits::Limits, money::MicroUsd, plan::Desired,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

pub(super) const RESOURCES_NOT_IMPLEMENTED: &str = "ResourcesNotImplemented";
const DEFAULT_TIMEOUT_SECONDS: u64 = 300;
const MAX_TIMEOUT_SECONDS: u64 = 14_400;
const MAX_PROMPT_BYTES: usize = 256 << 10;
const MAX_ENVIRONMENT_BYTES: usize = 64 << 10;

impl Posted {
    /// Checks the specification against itself and against the project's policy, and fills in the project's defaults.
    ///
    /// # Errors
    /// All fields that are wrong or that the policy does not permit.
    pub fn accept(self, policy: &ProjectPolicy) -> Result<Accepted, Invalid> {
        let Self { metadata, spec, raw } = self;
        let mut problems = Problems::default();
        let mut warnings = Vec::new();
        not_implemented(&spec, &mut warnings);
        repositories(&spec, &mut problems);
        amounts(&spec, &mut problems);
        if let Some(resources) = &spec.resources {
            policy.nodes.check(resources, &mut problems);
        }
        // Every field is named here or in `not_implemented`: a new one does not compile until somebody decides.
        let AgenticSessionSpec {
            prompt,
            initial_prompt,
            display_name,
            operating_mode,
            interactive,
            timeout,
            inactivity_timeout,
            stop_on_run_finished,
            ttl_seconds_after_finished,
            llm_settings,
            environment_variables,
            persona,
            analyse,
            plugins,
            permission_mode,
            budget,
            max_turns,
            workspace,
            process_network,
            needs_programs,
            repos: _,
            main_repo_index: _,
            main_repo_name: _,
            auto_push_on_complete: _,
            user_context: _,
            resource_overrides: _,
            resources: _,
            mcp_servers: _,
            active_workflow: _,
        } = spec;
        let LlmSettings { model, temperature, max_tokens } = llm_settings.unwrap_or_default();
        if temperature.is_some() {
            warn(
                &mut warnings,
                "TemperatureDropped",
                "llmSettings.temperature has no effect: model providers refuse it",
            );
        }
        if max_tokens == Some(0) {
            problems.add("spec.llmSettings.maxTokens", "must be at least 1");
        }
        named("spec.llmSettings.model", model.as_deref(), &mut problems);
        let persona = persona
            .and_then(|key| problems.take("spec.persona", key.parse()))
            .or_else(|| policy.default_persona.clone());
        if analyse && persona.is_none() {
            problems.add("spec.persona", rules::NAME_A_PERSONA);
        }
        let accepted = Accepted {
            prompt: one_prompt(prompt, initial_prompt, interactive, &mut problems),
            desired: desired(operating_mode),
            persona,
            analyse,
            model: model.or_else(|| policy.default_model.clone()),
            max_output_tokens: max_tokens,
            mode: mode(permission_mode, policy, &mut problems),
            budget: dollars(budget, policy, &mut problems),
            interactive,
            timeout: run_timeout(timeout, &mut problems),
            inactivity: inactivity_timeout.map(Duration::from_secs).or(policy.inactivity),
            stop_on_run_finished,
            retention: ttl_seconds_after_finished.map(Duration::from_secs).or(policy.retention),
            persistent: workspace.as_ref().is_some_and(|workspace| workspace.persistent),
            workspace: source(workspace, &mut problems),
            workspace_bytes: policy.max_workspace_bytes,
            environment: environment(environment_variables, &mut problems),
            max_turns: turns(max_turns, &mut problems),
            process_network: network(process_network, policy, &mut problems),
            needs_programs,
            plugins: plugins.map(|ids| only(&ids, &mut problems)),
            display_name,
            labels: metadata.labels,
            warnings,
            spec: raw,
        };
        problems.finish(accepted)
    }
}

fn one_prompt(
    old: Option<String>,
    new: Option<String>,
    interactive: bool,
    problems: &mut Problems,
) -> String {
    let prompt = match (old, new) {
        (Some(old), Some(new)) if old != new => {
            problems.add("spec.initialPrompt", rules::ONE_PROMPT);
            old
        }
        (Some(text), _) | (None, Some(text)) => text,
        (None, None) => String::new(),
    };
    if prompt.trim().is_empty() && !interactive {
        problems.add("spec.prompt", format_args!("is required: {}", rules::WRITE_A_PROMPT));
    }
    if prompt.len() > MAX_PROMPT_BYTES {
        problems.add("spec.prompt", format_args!("is longer than {MAX_PROMPT_BYTES} bytes"));
    }
    prompt
}

fn desired(mode: Option<OperatingMode>) -> Desired {
    match mode {
        None | Some(OperatingMode::Running) => Desired::Run,
        Some(OperatingMode::Suspended) => Desired::Suspend,
        Some(OperatingMode::Stopped) => Desired::Stop,
    }
}

fn repositories(spec: &AgenticSessionSpec, problems: &mut Problems) {
    for (index, repo) in spec.repos.iter().enumerate() {
        if repo.url.is_none() && repo.input.as_ref().is_none_or(|input| input.url.is_none()) {
            problems.add(format!("spec.repos[{index}]"), rules::REPOSITORY_URL);
        }
    }
    let main = spec.main_repo_index.and_then(|index| usize::try_from(index).ok()).unwrap_or_default();
    if main > 0 && main >= spec.repos.len() {
        problems.add("spec.mainRepoIndex", rules::NO_SUCH_REPOSITORY);
    }
}

fn amounts(spec: &AgenticSessionSpec, problems: &mut Problems) {
    let runner = spec.resources.as_ref().and_then(|resources| resources.runner.as_ref());
    if runner
        .and_then(|runner| runner.memory.as_ref())
        .is_some_and(|memory| memory.units() < RUNNER_MEMORY_BYTES)
    {
        problems.add("spec.resources.runner.memory", "must be 128Mi at least");
    }
    if spec.resource_overrides.as_ref().is_some_and(ResourceOverrides::is_of_the_system) {
        problems.add("spec.resourceOverrides.priorityClass", placement::A_PRIORITY);
    }
    let gpu = spec.resources.as_ref().and_then(|resources| resources.gpu.as_ref());
    if gpu.is_some_and(placement::Gpu::is_of_the_cluster) {
        problems.add("spec.resources.gpu.resource", placement::AN_EXTENDED);
    }
    let (Some(one), Some(other)) = (&spec.resources, &spec.resource_overrides) else { return };
    for (amount, twice) in [
        ("cpu", one.cpu.is_some() && other.cpu.is_some()),
        ("memory", one.memory.is_some() && other.memory.is_some()),
    ] {
        if twice {
            problems.add(format!("spec.resources.{amount}"), rules::in_one_of_them(amount));
        }
    }
}

fn mode(wanted: Option<Mode>, policy: &ProjectPolicy, problems: &mut Problems) -> PermissionMode {
    match wanted {
        None | Some(Mode::Default) => PermissionMode::Default,
        Some(Mode::AcceptEdits) => PermissionMode::AcceptEdits,
        Some(Mode::Plan) => PermissionMode::Plan,
        Some(Mode::Bypass) => {
            if !policy.allow_bypass {
                problems.add(
                    "spec.permissionMode",
                    "bypass is not permitted in this project: set permissions.allowBypass in its settings",
                );
            }
            PermissionMode::Bypass
        }
    }
}

fn dollars(wanted: Option<f64>, policy: &ProjectPolicy, problems: &mut Problems) -> Option<MicroUsd> {
    let wanted = wanted.and_then(|dollars| problems.take("spec.budget", MicroUsd::from_dollars(dollars)));
    let budget = wanted.or(policy.default_budget);
    match (budget, policy.max_budget) {
        (Some(budget), Some(most)) if budget > most => {
            problems.add(
                "spec.budget",
                format_args!("this project permits at most ${:.2} a session", most.dollars()),
            );
            Some(most)
        }
        (None, most) => most,
        (budget, _) => budget,
    }
}

fn run_timeout(seconds: Option<u64>, problems: &mut Problems) -> Duration {
    let seconds = seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS);
    if !(1..=MAX_TIMEOUT_SECONDS).contains(&seconds) {
        problems.add("spec.timeout", format_args!("must be 1 to {MAX_TIMEOUT_SECONDS} seconds"));
    }
    Duration::from_secs(seconds)
}

fn turns(wanted: Option<u32>, problems: &mut Problems) -> Option<u32> {
    let most = Limits::shipped().session.max_turns;
    if wanted.is_some_and(|turns| !(1..=most).contains(&turns)) {
        problems.add("spec.maxTurns", format_args!("must be 1 to {most}"));
    }
    wanted
}

fn source(workspace: Option<Workspace>, problems: &mut Problems) -> Source {
    let Workspace { dir, archive, persistent: _ } = workspace.unwrap_or_default();
    match (dir, archive) {
        (None, None) => Source::Empty,
        (Some(dir), None) => {
            let path = PathBuf::from(&dir.path);
            if !path.is_absolute() {
                problems.add("spec.workspace.dir.path", "must be an absolute path");
            }
            match (dir.in_place, dir.include_ignored) {
                (true, true) => {
                    problems.add(
                        "spec.workspace.dir.includeIgnored",
                        "is about a copy: with inPlace the session works on everything that is there",
                    );
                    Source::Empty
                }
                (true, false) => Source::InPlace { path },
                (false, include_ignored) => Source::Dir { path, include_ignored },
            }
        }
        (None, Some(archive)) => problems
            .take("spec.workspace.archive.blob", archive.blob.parse())
            .map_or(Source::Empty, |blob| Source::Archive { blob }),
        (Some(_), Some(_)) => {
            problems.add("spec.workspace", rules::ONE_SOURCE);
            Source::Empty
        }
    }
}

fn environment(variables: BTreeMap<String, String>, problems: &mut Problems) -> BTreeMap<String, String> {
    let name_is_valid = |name: &str| {
        !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    for (name, value) in &variables {
        if !name_is_valid(name) || value.contains('\0') {
            problems.add(format!("spec.environmentVariables.{name}"), rules::ENVIRONMENT_NAME);
        }
    }
    if variables.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_ENVIRONMENT_BYTES {
        problems.add(
            "spec.environmentVariables",
            format_args!("are longer than {MAX_ENVIRONMENT_BYTES} bytes together"),
        );
    }
    variables
}

fn network(
    wanted: Option<ProcessNetwork>,
    policy: &ProjectPolicy,
    problems: &mut Problems,
) -> ProcessNetwork {
    let network = wanted.unwrap_or(policy.process_network);
    if network == ProcessNetwork::Loopback && policy.process_network == ProcessNetwork::None {
        problems.add(
            "spec.processNetwork",
            "loopback is not permitted in this project: set permissions.processNetwork in its settings",
        );
    }
    network
}

fn only(ids: &[String], problems: &mut Problems) -> BTreeSet<PluginId> {
    ids.iter()
        .enumerate()
        .filter_map(|(index, id)| problems.take(&format!("spec.plugins[{index}]"), id.parse()))
        .collect()
}

fn warn(warnings: &mut Vec<Warning>, reason: &str, message: &str) {
    warnings.push(Warning { reason: reason.to_owned(), message: message.into() });
}

/// A condition for each field that is accepted and has no effect.
fn not_implemented(spec: &AgenticSessionSpec, warnings: &mut Vec<Warning>) {
    let repositories = !spec.repos.is_empty()
        || spec.main_repo_index.is_some_and(|i| i > 0)
        || spec.main_repo_name.is_some();
    let table = [
        (
            repositories,
            "ReposNotImplemented",
            "repos are not cloned yet: give the files as workspace.archive, or on one machine as workspace.dir",
        ),
        (
            spec.auto_push_on_complete,
            "AutoPushNotImplemented",
            "autoPushOnComplete has no effect yet: nothing is pushed; read the diff when the run is finished",
        ),
        (
            spec.user_context.is_some(),
            "UserContextIgnored",
            "userContext is ignored: the server records who asked from the credential",
        ),
        (
            spec.resource_overrides.is_some() || spec.resources.is_some(),
            RESOURCES_NOT_IMPLEMENTED,
            "resources and resourceOverrides have no effect on one machine yet: the shipped limits hold",
        ),
        (
            spec.mcp_servers.is_some(),
            "McpNotImplemented",
            "mcpServers have no effect yet: no MCP server is started",
        ),
        (
            spec.active_workflow.is_some(),
            "WorkflowNotImplemented",
            "activeWorkflow has no effect yet: the prompt is worked on as it is",
        ),
    ];
    for (applies, reason, message) in table {
        if applies {
            warn(warnings, reason, message);
        }
    }
}

#[cfg(test)]
mod tests;
