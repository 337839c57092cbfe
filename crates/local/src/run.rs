//! `belfry run`: assembles the local stack and runs it until a signal stops it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinError;

use crate::channels::{self, ChannelsError};
use crate::cli;
use crate::code::{Code, CodeError};
use crate::console::{self, Recorder};
use crate::database::{self, KeyedTables, TableError};
use crate::fault::{self, Faults};
use crate::function_url;
use crate::guard::Guard;
use crate::issuer::{CLIENT_ID, Issuer, SigningError};
use crate::lambda::{self, Lambda};
use crate::listen::{ListenError, Listeners};
use crate::local_api;
use crate::metrics::{self, Metrics};
use crate::nearest;
use crate::origins::{self, InvalidOrigin};
use crate::rate_limiter::RateLimiter;
use crate::ready::Ready;
use crate::server;
use crate::template::{
    FunctionSpec, FunctionUrlSpec, ScheduleSpec, StackSpec, Template, TemplateError,
};
use crate::websocket::{Limits, WebSocketApi};

/// API Gateway's maximum lifetime of a connection.
const MAX_DURATION: Duration = Duration::from_secs(2 * 3_600);

/// The parameter that tells the functions how long a connection lives, and its
/// least value.
const LIFETIME: &str = "ConnectionLifetimeSeconds";
const MIN_LIFETIME_SECONDS: u64 = 10;

/// The parameter that tells the functions the rules of channels.
const CHANNEL_RULES: &str = "ChannelRules";

/// The logical id of the function that serves HTTP readers.
const READER: &str = "Reader";

/// The parameter with the function that rules with `ask` ask.
const AUTHORIZE_FUNCTION: &str = "AuthorizeFunction";

/// Runs of a schedule in a shortened lifetime. Functions have the last sixth of
/// it to tell clients that the end is near.
const RUNS_PER_LIFETIME: u32 = 12;

/// Why the stack could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("{path}: {error}")]
    Template { path: String, error: TemplateError },
    #[error(
        "cannot listen on {address}: {cause}\nIs another stack running? Choose another port with {flag}; 0 picks a free port."
    )]
    Listen {
        address: SocketAddr,
        flag: &'static str,
        cause: io::Error,
    },
    #[error(
        "there is no binary {path} for function {function}\nBuild it with `cargo build --workspace --bins{release}`, or choose another folder with --functions."
    )]
    NoBinary {
        function: String,
        path: String,
        release: &'static str,
    },
    #[error(
        "there is no program {path} for function {function}\nIts CodeUri must be a folder, beside the template, that holds `bootstrap`."
    )]
    NoProgram { function: String, path: String },
    #[error("--function {parameter}: {error}")]
    Code { parameter: String, error: CodeError },
    #[error("--function {parameter}: the template has no such parameter; {hint}")]
    NoFunctionParameter { parameter: String, hint: String },
    #[error(
        "--function {0}: the parameter has a value already, or the stack a function of this name"
    )]
    FunctionTwice(String),
    #[error("the embedded DynamoDB stopped: {0}")]
    Database(String),
    #[error(
        "the functions reserve {reserved} of a concurrency of {concurrency}; raise it with --concurrency, or reserve less in the template"
    )]
    Concurrency { reserved: usize, concurrency: u32 },
    #[error("Parameters.AllowedOrigins: {0}")]
    Origins(#[from] InvalidOrigin),
    #[error(transparent)]
    Channels(#[from] ChannelsError),
    #[error(
        "--channels: {template} has no parameter {CHANNEL_RULES}, so no function would get the rules"
    )]
    NoChannelRules { template: String },
    #[error("--fault: {0}")]
    Fault(String),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Issuer(#[from] SigningError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs the stack until Ctrl-C, SIGTERM or SIGHUP.
pub(crate) async fn run(arguments: cli::RunArgs) -> Result<(), RunError> {
    let template =
        Template::read(&arguments.template).map_err(|error| template_error(&arguments, error))?;
    let application = application(&template, &arguments)?;
    let listeners = listen(&arguments, arguments.port, "--port").await?;
    let dynamodb = listen(&arguments, arguments.dynamodb_port, "--dynamodb-port").await?;
    let (address, dynamodb_address) = (listeners.reachable()?, dynamodb.reachable()?);
    let url = format!("http://{address}");
    let issuer = Issuer::new(&url)?;
    let mut stack = evaluate(&template, &arguments, &url, issuer.url())?;
    for function in application {
        add_function(&mut stack, function)?;
    }
    let settings = lambda::Settings {
        binaries: binaries(&arguments),
        runtime_api: url.clone(),
        dynamodb_url: format!("http://{dynamodb_address}"),
        lambda_url: url.clone(),
        region: arguments.region.clone(),
        max_environments: usize::from(arguments.lambda.environments),
        concurrency: usize::try_from(arguments.lambda.concurrency).unwrap_or(usize::MAX),
        reclaim_after: arguments.lambda.reclaim_after,
        retry_delays: arguments.lambda.retry_delay,
        log_level: if arguments.verbose { "DEBUG" } else { "INFO" },
        metrics: Metrics::default(),
        show_metrics: arguments.lambda.metrics,
    };
    check_binaries(&stack, &settings.binaries, arguments.release)?;
    log_ignored(&stack);

    let urls = function_urls(&stack, &arguments).await?;

    let functions = stack.functions.values();
    let faults = Faults::new(functions.map(|spec| spec.name.clone()).collect());
    for spec in &arguments.faults {
        faults
            .add(spec.clone())
            .map_err(|invalid| RunError::Fault(invalid.to_string()))?;
    }
    let database = database::with_tables(&stack.tables)?;
    let specs: Vec<_> = stack.functions.into_values().collect();
    let schedules = schedules(&specs, schedule_cap(&template, &arguments));
    check_concurrency(&specs, arguments.lambda.concurrency)?;
    let recorder = Recorder::default();
    let lambda = Lambda::new(specs, &settings, &faults, &recorder);
    let guard = Guard::new(arguments.host, &arguments.allowed_hosts);
    let websocket_path = format!("/{}", stack.api.stage);
    let urls_by_id: BTreeMap<_, _> = urls
        .iter()
        .map(|url| (url.id.clone(), format!("http://{}", url.address)))
        .collect();
    let ready = Ready {
        event: "ready",
        websocket: format!("ws://{address}{websocket_path}"),
        management: format!("{url}/{}", stack.api.stage),
        console: format!("{url}/_local/"),
        lambda: url,
        dynamodb: settings.dynamodb_url.clone(),
        issuer: issuer.url().to_owned(),
        reader: urls_by_id.get(READER).cloned(),
        function_urls: urls_by_id,
    };
    let limits = limits(&arguments.api_gateway);
    let api = WebSocketApi::new(
        stack.api,
        lambda.clone(),
        limits,
        faults.clone(),
        recorder.clone(),
        address,
    );
    let tables = KeyedTables::new(database.clone(), &stack.tables);
    let sources = console::Sources {
        recorder,
        api: api.clone(),
        faults: faults.clone(),
        dead_letters: lambda.dead_letters().clone(),
        issuer: issuer.clone(),
        ready: ready.clone(),
    };
    let router = api
        .router()
        .merge(lambda::invoke_router(lambda.clone()))
        .merge(lambda::runtime_router(&lambda))
        .merge(fault::router(faults.clone()))
        .merge(console::router(sources, tables))
        .merge(metrics::router(settings.metrics.clone()))
        .merge(local_api::router(
            issuer,
            lambda.dead_letters().clone(),
            ready.clone(),
        ));
    let mut signals = StopSignals::new()?;
    let serving = database::serve(
        dynamodb,
        database,
        stack.tables,
        faults.clone(),
        guard.clone(),
    );
    let mut database = tokio::spawn(serving);
    for url in urls {
        let router = function_url::router(lambda.clone(), &url.function, url.spec, url.address);
        let guard = guard.clone().with_pages();
        tokio::spawn(server::serve(url.listeners, router, guard));
    }
    let guard = guard.with_websocket(&websocket_path);
    tokio::spawn(server::serve(listeners, router, guard));
    let every = arguments.lambda.schedule_every;
    let schedules = lambda::start_schedules(&lambda, schedules, every, &arguments.region);
    let example = arguments
        .template
        .with_file_name("events/broadcast-to-user.json");
    ready.print(arguments.json, &example)?;
    tokio::select! {
        stopped = &mut database => return Err(RunError::Database(problem(stopped))),
        () = signals.next() => {}
    }
    tracing::info!("stopping");
    // The shutdown itself is orderly, without faults.
    faults.clear();
    for schedule in schedules {
        schedule.abort();
    }
    tokio::select! {
        () = api.stop() => {}
        () = signals.next() => tracing::warn!("second signal: stopping at once"),
    }
    lambda.stop().await;
    Ok(())
}

/// A function URL and its sockets.
struct BoundUrl {
    /// The function's logical id.
    id: String,
    function: FunctionSpec,
    spec: FunctionUrlSpec,
    listeners: Listeners,
    address: SocketAddr,
}

/// Listens for each function URL of the stack.
async fn function_urls(
    stack: &StackSpec,
    arguments: &cli::RunArgs,
) -> Result<Vec<BoundUrl>, RunError> {
    let mut urls = Vec::new();
    for (id, function) in &stack.functions {
        let Some(spec) = &function.url else { continue };
        let number = u16::try_from(urls.len()).unwrap_or(u16::MAX);
        let port = arguments.function_url_port(number);
        let listeners = listen(arguments, port, "--url-port").await?;
        urls.push(BoundUrl {
            id: id.clone(),
            function: function.clone(),
            spec: spec.clone(),
            address: listeners.reachable()?,
            listeners,
        });
    }
    Ok(urls)
}

/// The resources that the local stack does not emulate: one line at INFO, and
/// the names at DEBUG.
fn log_ignored(stack: &StackSpec) {
    if stack.ignored.is_empty() {
        return;
    }
    for (kind, ids) in &stack.ignored {
        tracing::debug!("ignoring {} ({kind})", ids.join(", "));
    }
    let kinds: Vec<_> = stack.ignored.keys().map(String::as_str).collect();
    tracing::info!("the local stack does not emulate {}", kinds.join(", "));
}

/// The signals that stop a command: Ctrl-C, SIGTERM, and SIGHUP, which a closed
/// terminal sends.
pub(crate) struct StopSignals([Signal; 3]);

impl StopSignals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    pub(crate) async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

fn problem(stopped: Result<io::Result<String>, JoinError>) -> String {
    match stopped {
        Ok(Ok(problem)) => problem,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }
}

fn limits(arguments: &cli::ApiGatewayArgs) -> Limits {
    let cli::ApiGatewayArgs {
        idle_timeout,
        max_duration,
        connect_rate,
        request_rate,
    } = *arguments;
    Limits {
        idle_timeout,
        max_duration,
        connects: RateLimiter::new(connect_rate, connect_rate),
        // In proportion to the account's quota: 10,000 a second, bursts of 5,000.
        requests: RateLimiter::new(request_rate, request_rate / 2),
    }
}

/// As AWS does on deployment, checks that the concurrency covers all reserved
/// concurrency, and that functions without a reservation have some left.
fn check_concurrency(specs: &[FunctionSpec], concurrency: u32) -> Result<(), RunError> {
    let reserved: usize = specs
        .iter()
        .filter_map(|spec| spec.reserved_concurrency)
        .sum();
    let needed =
        reserved + usize::from(specs.iter().any(|spec| spec.reserved_concurrency.is_none()));
    if usize::try_from(concurrency).is_ok_and(|concurrency| needed > concurrency) {
        return Err(RunError::Concurrency {
            reserved,
            concurrency,
        });
    }
    Ok(())
}

/// How long connections live, if that is less than on AWS.
fn shortened_lifetime(arguments: &cli::RunArgs) -> Option<Duration> {
    let lifetime = arguments.api_gateway.max_duration;
    (lifetime < MAX_DURATION).then_some(lifetime)
}

/// The longest period of a schedule, if connections live so briefly that the
/// template's own could miss their end.
fn schedule_cap(template: &Template, arguments: &cli::RunArgs) -> Option<Duration> {
    let lifetime = shortened_lifetime(arguments)?;
    template
        .has_parameter(LIFETIME)
        .then(|| (lifetime / RUNS_PER_LIFETIME).max(Duration::from_secs(1)))
}

/// Every schedule with its function's name, none with a longer period than the
/// cap.
fn schedules(specs: &[FunctionSpec], cap: Option<Duration>) -> Vec<(String, ScheduleSpec)> {
    let with_name = |spec: &FunctionSpec| {
        let name = spec.name.clone();
        let schedules = spec.schedules.clone().into_iter();
        schedules.map(move |mut schedule| {
            let capped = |period: Duration| cap.map_or(period, |cap| period.min(cap));
            schedule.period = schedule.period.map(capped);
            (name.clone(), schedule)
        })
    };
    specs.iter().flat_map(with_name).collect()
}

async fn listen(
    arguments: &cli::RunArgs,
    port: u16,
    flag: &'static str,
) -> Result<Listeners, RunError> {
    let bound = Listeners::bind(arguments.host, port).await;
    bound.map_err(|ListenError { address, cause }| RunError::Listen {
        address,
        flag,
        cause,
    })
}

/// Evaluates the template. Parameters that were not given point to the local
/// stack.
fn evaluate(
    template: &Template,
    arguments: &cli::RunArgs,
    url: &str,
    issuer: &str,
) -> Result<StackSpec, RunError> {
    let mut parameters: BTreeMap<_, _> = arguments.parameters.iter().cloned().collect();
    for (parameter, _) in &arguments.application {
        let arn = lambda::arn(&arguments.region, parameter);
        if parameters.insert(parameter.clone(), arn).is_some() {
            return Err(RunError::FunctionTwice(parameter.clone()));
        }
    }
    let stage = parameters
        .get("Stage")
        .cloned()
        .or_else(|| template.parameter_default("Stage"));
    let local = [
        (
            "CallbackEndpoint",
            format!("{url}/{}", stage.unwrap_or_default()),
        ),
        ("CognitoClientIds", CLIENT_ID.to_owned()),
        ("TokenIssuer", issuer.to_owned()),
    ];
    let lifetime = shortened_lifetime(arguments).map(|lifetime| {
        let seconds = lifetime.as_secs().max(MIN_LIFETIME_SECONDS);
        (LIFETIME, seconds.to_string())
    });
    for (name, value) in local.into_iter().chain(lifetime) {
        if template.has_parameter(name) {
            parameters.entry(name.to_owned()).or_insert(value);
        }
    }
    if let Some(list) = parameters.get("AllowedOrigins") {
        origins::check(list)?;
    }
    if let Some(rules) = parameters.get(CHANNEL_RULES) {
        channels::check_parameter(rules)?;
    } else if let Some(rules) = channel_rules(template, arguments)? {
        parameters.insert(CHANNEL_RULES.to_owned(), rules);
    }
    warn_of_unanswered_rules(template, &parameters);
    template
        .evaluate(&parameters, &arguments.region)
        .map_err(|error| template_error(arguments, error))
}

/// A rule that asks a function refuses everybody if there is none.
fn warn_of_unanswered_rules(template: &Template, parameters: &BTreeMap<String, String>) {
    let function = parameters.get(AUTHORIZE_FUNCTION).map(String::as_str);
    let has_function = function.is_some_and(|function| !function.is_empty());
    if !template.has_parameter(AUTHORIZE_FUNCTION) || has_function {
        return;
    }
    let rules = parameters.get(CHANNEL_RULES);
    if let Some(rule) = rules.and_then(|rules| channels::rule_that_asks(rules)) {
        tracing::warn!(
            "{rule} says `ask`, which refuses everybody without a function: --function {AUTHORIZE_FUNCTION}=FILE runs one"
        );
    }
}

/// The rules of channels, for the template's parameter.
fn channel_rules(
    template: &Template,
    arguments: &cli::RunArgs,
) -> Result<Option<String>, RunError> {
    let has_parameter = template.has_parameter(CHANNEL_RULES);
    if arguments.channels.is_some() && !has_parameter {
        return Err(RunError::NoChannelRules {
            template: arguments.template.display().to_string(),
        });
    }
    let beside = arguments.template.with_file_name("channels.json");
    let file = match &arguments.channels {
        Some(file) => file,
        None if has_parameter && beside.is_file() => &beside,
        None => return Ok(None),
    };
    Ok(Some(channels::minified(file)?))
}

fn template_error(arguments: &cli::RunArgs, error: TemplateError) -> RunError {
    RunError::Template {
        path: arguments.template.display().to_string(),
        error,
    }
}

/// The folder of the functions' binaries.
fn binaries(arguments: &cli::RunArgs) -> PathBuf {
    if let Some(folder) = &arguments.functions {
        return folder.clone();
    }
    let beside = arguments.template.parent().unwrap_or(Path::new("."));
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| beside.join("target"), PathBuf::from);
    target.join(if arguments.release {
        "release"
    } else {
        "debug"
    })
}

/// The application's own functions. Each has the name of its parameter.
fn application(
    template: &Template,
    arguments: &cli::RunArgs,
) -> Result<Vec<FunctionSpec>, RunError> {
    let functions = arguments.application.iter().map(|(parameter, file)| {
        if !template.has_parameter(parameter) {
            return Err(RunError::NoFunctionParameter {
                parameter: parameter.clone(),
                hint: nearest::hint(parameter, template.parameter_names()),
            });
        }
        let code = Code::of_file(Path::new(file)).map_err(|error| RunError::Code {
            parameter: parameter.clone(),
            error,
        })?;
        let environment = arguments.application_environment.iter().cloned();
        let environment = environment.collect();
        Ok(FunctionSpec::of_application(parameter, code, environment))
    });
    functions.collect()
}

/// Adds a function, whose name nothing else may have.
fn add_function(stack: &mut StackSpec, function: FunctionSpec) -> Result<(), RunError> {
    let name = function.name.clone();
    let is_taken = stack
        .functions
        .iter()
        .any(|(id, other)| *id == name || other.name == name);
    if is_taken {
        return Err(RunError::FunctionTwice(name));
    }
    stack.functions.insert(name, function);
    Ok(())
}

/// Reports a missing binary now, not at the first event.
fn check_binaries(stack: &StackSpec, folder: &Path, release: bool) -> Result<(), RunError> {
    for (id, function) in &stack.functions {
        let file = function.code.path(folder);
        if file.is_file() {
            continue;
        }
        let (function_id, path) = (id.clone(), file.display().to_string());
        return Err(match function.code {
            Code::Binary(_) => RunError::NoBinary {
                function: function_id,
                path,
                release: if release { " --release" } else { "" },
            },
            Code::Node(_) | Code::Program(_) => RunError::NoProgram {
                function: function_id,
                path,
            },
        });
    }
    Ok(())
}
