"""Checks the templates, and the documents that describe them.

Runs in the SAM CLI's environment: its translator expands template.yaml as
CloudFormation does, so the checks cover the roles and policies that SAM adds.
"""

import doctest
import json
import re
import subprocess
import sys
import tomllib
import unittest
from pathlib import Path

import jsonschema
from samcli.cli.types import CfnParameterOverridesType
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import channels  # noqa: E402
import origins  # noqa: E402
import parameters  # noqa: E402

RUNBOOKS = ROOT / "docs/runbooks"
OPERATIONS = (ROOT / "docs/OPERATIONS.md").read_text()

# The AWS managed policies that roles may have, and why. SAM adds both.
MANAGED_POLICIES = {
    "AWSLambdaBasicExecutionRole": "writes logs; names no group, because the group may not exist yet",
    "AWSXrayWriteOnlyAccess": "sends traces, for which X-Ray has no resources to name",
}

# The only resources without fixed names: connections come and go, and a stack's id
# is chosen when it is created.
WILDCARDS = re.compile(
    r"^arn:[^*]*:(execute-api:[^*]*/(POST|DELETE|GET)/@connections|cloudformation:[^*]*:stack/\$\{AWS::StackName\})/\*$"
)

# What each function does with the tables. A transaction needs the actions of its
# parts. An action without a call here is a right too many; a call without an
# action fails on AWS only, since the local stack checks no roles.
ON_TABLES = {
    "Connect": {
        "Connections": "BatchGetItem ConditionCheckItem DeleteItem GetItem PutItem UpdateItem",
        # PutItem: the departure of a connection that ends during its handshake.
        "State": "BatchGetItem GetItem PutItem UpdateItem",
        "Subscriptions": "BatchWriteItem UpdateItem",
    },
    "Disconnect": {
        "Connections": "DeleteItem GetItem",
        "State": "GetItem PutItem UpdateItem",
        "Subscriptions": "BatchWriteItem UpdateItem",
    },
    "Default": {
        "Connections": "DeleteItem GetItem UpdateItem",
        "Messages": "GetItem PutItem Query",
        "State": "DeleteItem GetItem PutItem UpdateItem",
        "Subscriptions": "BatchGetItem BatchWriteItem DeleteItem GetItem Query UpdateItem",
    },
    "Reader": {
        "Connections": "DeleteItem GetItem",
        "Messages": "BatchGetItem GetItem PutItem Query",
        "State": "GetItem PutItem UpdateItem",
        "Subscriptions": "BatchWriteItem DeleteItem GetItem Query UpdateItem",
    },
    "Broadcaster": {
        "Connections": "BatchGetItem DeleteItem GetItem Scan",
        "Connections/index/userId-index": "Query",
        "State": "BatchGetItem GetItem PutItem Query UpdateItem",
        "Messages": "GetItem PutItem Query",
        "Subscriptions": "BatchGetItem BatchWriteItem DeleteItem GetItem Query UpdateItem",
    },
    "Worker": {
        "Connections": "BatchGetItem DeleteItem GetItem Scan",
        "Connections/index/userId-index": "Query",
        "State": "GetItem PutItem Query UpdateItem",
        "Messages": "GetItem PutItem Query",
        "Subscriptions": "BatchWriteItem DeleteItem Query UpdateItem",
    },
    "Sweeper": {
        "Connections": "BatchGetItem DeleteItem GetItem UpdateItem",
        "Connections/index/due-index": "Query",
        "State": "BatchGetItem DeleteItem GetItem PutItem Query UpdateItem",
        "Subscriptions": "BatchWriteItem DeleteItem PutItem Query UpdateItem",
    },
    "Operator": {
        "Connections": "BatchGetItem DeleteItem GetItem Scan UpdateItem",
        "Connections/index/userId-index": "Query",
        "Messages": "BatchWriteItem GetItem PutItem Query",
        "State": "BatchGetItem GetItem PutItem Query UpdateItem",
        "Subscriptions": "BatchGetItem BatchWriteItem DeleteItem GetItem Query Scan UpdateItem",
    },
    "Hooks": {
        "State": "DeleteItem Query",
    },
}

FUNCTIONS = [
    "Connect",
    "Disconnect",
    "Default",
    "Reader",
    "Broadcaster",
    "Worker",
    "Sweeper",
    "Operator",
    "Hooks",
]


def read(path):
    return yaml_parse((ROOT / path).read_text())


def quoted(path):
    """The words that a source file has in quotes."""
    return set(re.findall(r'"(\w+)"', (ROOT / path).read_text()))


class Policies:
    """Tells SAM the ARNs of AWS's managed policies."""

    def load(self):
        return {name: f"arn:aws:iam::aws:policy/{name}" for name in MANAGED_POLICIES}


def expanded():
    template = read("template.yaml")
    template["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
    return transform(template, {}, Policies())


def of_type(template, kind):
    return {
        name: resource["Properties"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == kind
    }


def as_list(value):
    return value if isinstance(value, list) else [value]


def text_of(resource):
    """A resource's ARN as a string. Values known only on AWS keep their references."""
    if isinstance(resource, dict) and isinstance(resource.get("Fn::Sub"), str):
        return resource["Fn::Sub"]
    return resource if isinstance(resource, str) else json.dumps(resource)


class Roles(unittest.TestCase):
    template = expanded()

    def statements(self):
        for name, role in of_type(self.template, "AWS::IAM::Role").items():
            for policy in role.get("Policies", []):
                for statement in as_list(policy["PolicyDocument"]["Statement"]):
                    yield name, statement
        for kind in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
            for name, policy in of_type(self.template, kind).items():
                for statement in as_list(policy["PolicyDocument"]["Statement"]):
                    yield name, statement

    def test_every_statement_names_its_actions_and_its_resources(self):
        statements = list(self.statements())
        self.assertGreater(len(statements), 15)
        for role, statement in statements:
            with self.subTest(role=role, statement=statement):
                self.assertEqual(statement["Effect"], "Allow")
                self.assertNotIn("NotAction", statement)
                self.assertNotIn("NotResource", statement)
                for action in as_list(statement["Action"]):
                    self.assertNotIn("*", action)
                for resource in as_list(statement["Resource"]):
                    text = text_of(resource)
                    self.assertTrue("*" not in text or WILDCARDS.match(text), text)

    def test_each_function_may_do_with_the_tables_what_it_does(self):
        allowed = {function: {} for function in FUNCTIONS}
        for name, statement in self.statements():
            for action in as_list(statement["Action"]):
                service, action = action.split(":")
                if service != "dynamodb":
                    continue
                for resource in as_list(statement["Resource"]):
                    if "Fn::GetAtt" in resource:
                        table, _ = resource["Fn::GetAtt"]
                    else:
                        table = resource["Fn::Sub"].replace("${", "").replace(".Arn}", "")
                    tables = allowed[name.removesuffix("Role")]
                    tables.setdefault(table, set()).add(action)
        allowed = {
            function: {table: " ".join(sorted(actions)) for table, actions in tables.items()}
            for function, tables in allowed.items()
        }
        for function in FUNCTIONS:
            self.assertEqual(allowed[function], ON_TABLES[function], function)

    def test_only_those_that_invoke_a_function_may(self):
        may_invoke = {}
        for name, statement in self.statements():
            if "lambda:InvokeFunction" in as_list(statement["Action"]):
                [resource] = as_list(statement["Resource"])
                target = resource.get("Ref") or resource["Fn::GetAtt"][0]
                may_invoke.setdefault(name, set()).add(target)
        self.assertEqual(
            may_invoke,
            {
                "DefaultRole": {"Worker"},
                "ReaderRole": {"Worker"},
                "SweeperRole": {"Worker"},
                "AskAuthorizeFunction": {"AuthorizeFunction"},
                "InvokeCallFunction": {"CallFunction"},
                "BroadcasterRole": {"Worker"},
                "OperatorRole": {"Worker"},
                "WorkerHandsOver": {"Worker"},
                "SweeperTickRole": {"Sweeper"},
                "HooksRole": {"HookFunction"},
                "HooksTickRole": {"Hooks"},
                "StartHooks": {"Hooks"},
                "BroadcasterInvokePolicy": {"Broadcaster"},
                "OperatorInvokePolicy": {"Operator"},
            },
        )
        asks = of_type(self.template, "AWS::IAM::Policy")["AskAuthorizeFunction"]
        self.assertIn({"Ref": "DefaultRole"}, asks["Roles"])

    def test_only_default_may_invoke_the_applications_functions_and_only_those_that_are_set(self):
        named = set()
        for name, resource in self.template["Resources"].items():
            if resource["Type"] != "AWS::IAM::Policy":
                continue
            [statement] = resource["Properties"]["PolicyDocument"]["Statement"]
            if statement["Action"] != "lambda:InvokeFunction" or "Ref" not in statement["Resource"]:
                continue
            parameter = statement["Resource"]["Ref"]
            named.add(parameter)
            # Rules are asked by whoever subscribes a client or serves a reader.
            reader = {"Fn::If": ["HasReader", {"Ref": "ReaderRole"}, {"Ref": "AWS::NoValue"}]}
            judges = [reader] if parameter == "AuthorizeFunction" else []
            self.assertEqual(resource["Properties"]["Roles"], [{"Ref": "DefaultRole"}, *judges], name)
            condition = self.template["Conditions"][resource["Condition"]]
            self.assertEqual(condition, {"Fn::Not": [{"Fn::Equals": [{"Ref": parameter}, ""]}]}, name)
        self.assertEqual(named, {"AuthorizeFunction", "CallFunction"})

    def test_workers_have_a_concurrency_of_their_own_only_if_it_is_set(self):
        worker = of_type(self.template, "AWS::Lambda::Function")["Worker"]
        limit = {"Fn::If": ["HasWorkerConcurrency", {"Ref": "WorkerConcurrency"}, {"Ref": "AWS::NoValue"}]}
        self.assertEqual(worker["ReservedConcurrentExecutions"], limit)
        condition = self.template["Conditions"]["HasWorkerConcurrency"]
        self.assertEqual(condition, {"Fn::Not": [{"Fn::Equals": [{"Ref": "WorkerConcurrency"}, 0]}]})
        self.assertEqual(self.template["Parameters"]["WorkerConcurrency"]["Default"], 0)

    def test_without_a_hook_there_is_no_function_for_it(self):
        of_hooks = {
            name
            for name, resource in self.template["Resources"].items()
            if resource.get("Condition") == "HasHookFunction"
        }
        self.assertLessEqual({"Hooks", "HooksRole", "HooksLogs", "HooksTick", "HooksTickRole", "StartHooks"}, of_hooks)
        named = {name for name in self.template["Resources"] if name.startswith("Hooks")}
        self.assertLessEqual(named, of_hooks)
        condition = self.template["Conditions"]["HasHookFunction"]
        self.assertEqual(condition, {"Fn::Not": [{"Fn::Equals": [{"Ref": "HookFunction"}, ""]}]})
        name = {"Fn::If": ["HasHookFunction", {"Ref": "Hooks"}, ""]}
        functions = of_type(self.template, "AWS::Lambda::Function")
        writers = of_type(self.template, "AWS::IAM::Policy")["StartHooks"]["Roles"]
        for function in FUNCTIONS:
            role = {"Ref": f"{function}Role"}
            if function == "Reader":
                role = {"Fn::If": ["HasReader", role, {"Ref": "AWS::NoValue"}]}
            self.assertIn(role, writers)
            if function != "Hooks":
                self.assertEqual(functions[function]["Environment"]["Variables"]["HOOKS_FUNCTION"], name, function)

    def test_a_call_ends_before_the_function_that_makes_it(self):
        seconds = {
            name: int(re.search(rf"{name}: Duration = Duration::from_secs\((\d+)\)", (ROOT / file).read_text())[1])
            for file, name in (
                ("crates/aws/src/lambda/callee.rs", "CALL_TIME"),
                ("crates/aws/src/clients.rs", "DYNAMODB_TIMEOUT"),
            )
        }
        timeout = of_type(self.template, "AWS::Lambda::Function")["Default"]["Timeout"]
        self.assertLess(2 * seconds["DYNAMODB_TIMEOUT"] + seconds["CALL_TIME"], timeout)

    def test_managed_policies_are_those_of_the_list(self):
        found = set()
        for name, role in of_type(self.template, "AWS::IAM::Role").items():
            for policy in role.get("ManagedPolicyArns", []):
                found.add(policy.rsplit("/", 1)[1])
                self.assertIn(policy.rsplit("/", 1)[1], MANAGED_POLICIES, name)
        self.assertEqual(found, set(MANAGED_POLICIES), "no role has one of the listed policies")

    def test_the_boundary_of_a_deployer_allows_what_the_roles_need(self):
        [boundary] = [
            policy
            for name, policy in of_type(read("infra/deployer-role.yaml"), "AWS::IAM::ManagedPolicy").items()
            if name == "Boundary"
        ]
        allowed = {
            action
            for statement in boundary["PolicyDocument"]["Statement"]
            for action in as_list(statement["Action"])
        }
        # Those are for roles of others.
        for_callers = of_type(self.template, "AWS::IAM::ManagedPolicy")
        needed = {
            action
            for name, statement in self.statements()
            for action in as_list(statement["Action"])
            if name not in for_callers
        }
        self.assertGreater(len(needed), 8)
        self.assertLessEqual(needed, allowed)

    def test_the_boundary_of_a_deployer_knows_the_applications_functions(self):
        template = read("infra/deployer-role.yaml")
        [resources] = [
            statement["Resource"]
            for statement in template["Resources"]["Boundary"]["Properties"]["PolicyDocument"]["Statement"]
            if statement["Action"] == "lambda:InvokeFunction"
        ]
        for parameter in ("AuthorizeFunction", "CallFunction", "HookFunction"):
            own = self.template["Parameters"][parameter]
            self.assertEqual(template["Parameters"][parameter]["AllowedPattern"], own["AllowedPattern"])
            self.assertEqual(template["Parameters"][parameter]["Default"], "")
            given = {"Fn::If": [f"Has{parameter}", {"Ref": parameter}, {"Ref": "AWS::NoValue"}]}
            self.assertIn(given, resources)

    def test_every_role_takes_the_boundary(self):
        roles = of_type(self.template, "AWS::IAM::Role")
        self.assertEqual(len(roles), len(FUNCTIONS) + 2)
        for name, role in roles.items():
            self.assertIn("PermissionsBoundary", role, name)


class Functions(unittest.TestCase):
    template = expanded()

    def test_each_has_a_log_group_with_a_retention(self):
        functions = of_type(self.template, "AWS::Lambda::Function")
        groups = of_type(self.template, "AWS::Logs::LogGroup")
        self.assertEqual(sorted(functions), sorted(FUNCTIONS))
        for name, function in functions.items():
            self.assertEqual(function["LoggingConfig"]["LogFormat"], "JSON", name)
            group = groups[function["LoggingConfig"]["LogGroup"]["Ref"]]
            self.assertEqual(group["RetentionInDays"], {"Ref": "LogRetentionDays"}, name)
            self.assertEqual(function["TracingConfig"], {"Mode": "Active"}, name)
            self.assertEqual(function["Runtime"], "provided.al2023", name)

    def test_each_asynchronous_function_has_a_destination(self):
        configs = of_type(self.template, "AWS::Lambda::EventInvokeConfig")
        with_destination = {
            config["FunctionName"]["Ref"]
            for config in configs.values()
            if config["DestinationConfig"]["OnFailure"]["Destination"]
        }
        self.assertEqual(with_destination, {"Broadcaster", "Worker", "Sweeper", "Operator", "Hooks"})
        for schedule in of_type(self.template, "AWS::Scheduler::Schedule").values():
            self.assertIn("DeadLetterConfig", schedule["Target"])


class Api(unittest.TestCase):
    # None of them holds anything that a client wrote.
    VARIABLES = {
        "requestTime",
        "requestId",
        "connectionId",
        "routeKey",
        "eventType",
        "status",
        "integration.status",
        "integrationLatency",
        "error.responseType",
        "identity.sourceIp",
    }

    def test_no_log_can_hold_a_token(self):
        [stage] = of_type(expanded(), "AWS::ApiGatewayV2::Stage").values()
        _, settings, _ = stage["AccessLogSettings"]["Fn::If"]
        line = settings["Format"]
        self.assertEqual(set(re.findall(r"\$context\.([A-Za-z.]+)", line)), self.VARIABLES)
        json.loads(line)
        for route in [stage["DefaultRouteSettings"], *stage["RouteSettings"].values()]:
            self.assertEqual(route["LoggingLevel"], "OFF")
            self.assertFalse(route["DataTraceEnabled"])
            self.assertIn("ThrottlingRateLimit", route)


class Tables(unittest.TestCase):
    def test_both_are_encrypted_backed_up_and_protected(self):
        tables = of_type(read("template.yaml"), "AWS::DynamoDB::Table")
        self.assertEqual(sorted(tables), ["Connections", "Messages", "State", "Subscriptions"])
        for name, table in tables.items():
            with self.subTest(table=name):
                self.assertEqual(table["BillingMode"], "PAY_PER_REQUEST")
                self.assertTrue(table["TimeToLiveSpecification"]["Enabled"])
                recovery = table["PointInTimeRecoverySpecification"]
                self.assertTrue(recovery["PointInTimeRecoveryEnabled"])
                self.assertTrue(table["SSESpecification"]["SSEEnabled"])
                self.assertIn("DeletionProtectionEnabled", table)


class Parameters(unittest.TestCase):
    template = read("template.yaml")

    def test_each_is_described_bounded_and_has_a_default(self):
        for name, parameter in self.template["Parameters"].items():
            with self.subTest(parameter=name):
                self.assertIn("Default", parameter)
                self.assertGreater(len(parameter["Description"]), 20)
                bounds = {"AllowedPattern", "AllowedValues", "MinValue"} & set(parameter)
                self.assertTrue(bounds, "anything would be accepted")
                if "AllowedPattern" in bounds:
                    # Otherwise CloudFormation answers with the pattern.
                    self.assertTrue(parameter["ConstraintDescription"].startswith("must be "))
                if "MinValue" in bounds:
                    self.assertIn("MaxValue", parameter)

    def test_origins_are_checked_before_a_deploy(self):
        for case in json.loads((ROOT / "tests/cases/allowed-origins.json").read_text()):
            entry, advice = case["entry"], case.get("advice")
            with self.subTest(entry=entry):
                expected = advice and f'no browser sends the origin "{entry}": {advice}'
                self.assertEqual(origins.problem(entry), expected)
        self.assertIsNone(origins.problem("https://a.example, https://b.example,"))
        self.assertIn('"localhost:5173"', origins.problem("https://a.example, localhost:5173"))

    def test_sam_reads_what_was_given(self):
        rules = {"version": "1.0", "channels": [{"match": "a", "groups": ["x y", "a\"b", "\\", "ü' "], "allow": "ask"}]}
        for name, value in [
            ("AllowedOrigins", ""),
            ("AllowedOrigins", "https://a.example, https://b.example"),
            ("ChannelRules", '{"version":"1.0"}'),
            ("ChannelRules", channels.minified((ROOT / "channels.json").read_text())),
            ("ChannelRules", channels.minified(json.dumps(rules))),
        ]:
            with self.subTest(value=value):
                word = parameters.override(name, value)
                read = CfnParameterOverridesType().convert((word, 'Stage="dev"'), None, None)
                if name == "ChannelRules":
                    value, read[name] = json.loads(value), json.loads(read[name])
                self.assertEqual(read, {name: value, "Stage": "dev"})

    def test_each_is_in_one_group_of_the_console(self):
        groups = self.template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        grouped = [name for group in groups for name in group["Parameters"]]
        self.assertEqual(sorted(grouped), sorted(self.template["Parameters"]))

    def test_each_is_documented_with_its_default_and_description(self):
        section = OPERATIONS.split("\n## Parameters\n")[1].split("\n## ")[0]
        rows = re.findall(r"^\| `(\w+)` \| (.*?) \| .*? \| (.*) \|$", section, re.MULTILINE)
        documented = {name: (default.strip("`").replace(",", ""), text) for name, default, text in rows}
        self.assertEqual(sorted(documented), sorted(self.template["Parameters"]))
        for name, parameter in self.template["Parameters"].items():
            with self.subTest(parameter=name):
                expected = (str(parameter["Default"]) or "empty", " ".join(parameter["Description"].split()))
                self.assertEqual(documented[name], expected)

    def problem(self, name, value):
        return parameters.problem_of(name, value, parameters.declared())

    def test_samconfig_sets_valid_parameters(self):
        config = tomllib.loads((ROOT / "samconfig.toml").read_text())
        for section in ("default", "prod"):
            overrides = config[section]["deploy"]["parameters"]["parameter_overrides"]
            for name, value in parameters.parse(overrides).items():
                with self.subTest(section=section, parameter=name):
                    self.assertIsNone(self.problem(name, value))

    def test_every_default_is_valid(self):
        for name, parameter in self.template["Parameters"].items():
            self.assertIsNone(self.problem(name, str(parameter["Default"])))

    def test_an_unknown_name_is_answered_with_the_nearest(self):
        missing = "template.yaml has no parameter"
        for name, hint in [
            ("MaxConnection", "did you mean MaxConnections"),
            ("maxconnections", "did you mean MaxConnections"),
            ("AlowedOrigins", "did you mean AllowedOrigins?"),
            ("Xyz", "docs/OPERATIONS.md lists them."),
        ]:
            self.assertTrue(self.problem(name, "1").startswith(f"{missing} {name}; {hint}"), name)

    def test_an_invalid_value_is_answered_with_a_sentence(self):
        whole = "MaxConnections must be a whole number from 1 to 10000000."
        for value in ("0", "10000001", "-1", "1.5", "1e3", "", "many", " 7", "9" * 30):
            self.assertEqual(self.problem("MaxConnections", value), whole)
        # CloudFormation would accept them, and the function fail at startup.
        for name, parameter in self.template["Parameters"].items():
            if parameter["Type"] == "Number":
                for value in (f"{parameter['Default']}.5", f"{parameter['Default']}.0"):
                    self.assertRegex(self.problem(name, value) or "", f"^{name} must be a whole number", value)
        self.assertRegex(self.problem("TokenUse", "refresh"), "^TokenUse must be one of access, id")
        self.assertTrue(self.problem("Stage", "a/b").startswith("Stage must "))
        # CloudFormation matches the whole value.
        self.assertIsNotNone(self.problem("Stage", "dev\n"))
        self.assertIsNotNone(self.problem("ConnectionTtlSeconds", "60"))


class Channels(unittest.TestCase):
    def test_rules_are_checked_before_a_deploy_as_the_functions_check_them(self):
        for case in json.loads((ROOT / "schemas/cases/channels.json").read_text()):
            with self.subTest(case=case["name"]):
                problem = channels.problem(case["text"])
                if case["expect"] == "accepted":
                    self.assertIsNone(problem)
                    minified = channels.minified(case["text"])
                    self.assertEqual(channels.minified(minified), minified)
                else:
                    self.assertIn(case["names"], problem)

    def test_a_file_that_cannot_be_read_is_named(self):
        for path, said in [("nowhere.json", "CHANNELS=FILE"), ("docs/plots/growth.svg", "not valid JSON")]:
            with self.assertRaises(SystemExit) as exits:
                channels.read(ROOT / path)
            self.assertIn(said, str(exits.exception))
            self.assertIn(path, str(exits.exception))

    def test_every_function_that_decides_gets_the_rules(self):
        functions = of_type(read("template.yaml"), "AWS::Serverless::Function")
        given = {
            name
            for name, function in functions.items()
            if "CHANNEL_RULES" in function.get("Environment", {}).get("Variables", {})
        }
        self.assertEqual(given, {"Connect", "Default", "Reader", "Broadcaster", "Worker"})


class Examples(unittest.TestCase):
    def test_the_upload_example_asks_for_what_the_broadcaster_accepts(self):
        machine = read("examples/s3-upload/template.yaml")["Resources"]["Notify"]["Properties"]
        [payload] = [
            state["Arguments"]["Payload"]
            for state in machine["Definition"]["States"].values()
            if "Payload" in state["Arguments"]
        ]
        # Expressions become a text or a size. examples_test.py evaluates them.
        text = re.sub(r'"{% [^"]*\.size %}"', "5", json.dumps(payload))
        request = json.loads(re.sub(r'"{% [^"]* %}"', '"x"', text))
        self.assertEqual(request["target"], {"type": "user", "userId": "x"})
        schema = json.loads((ROOT / "schemas/broadcast-request.json").read_text())
        jsonschema.validate(request, schema)

    def test_each_role_of_the_upload_example_does_one_thing(self):
        template = read("examples/s3-upload/template.yaml")
        roles = of_type(template, "AWS::IAM::Role")
        allowed = {
            name: [
                (statement["Action"], statement["Resource"])
                for policy in role["Policies"]
                for statement in as_list(policy["PolicyDocument"]["Statement"])
            ]
            for name, role in roles.items()
        }
        self.assertEqual(
            allowed,
            {
                "UploadedRole": [("states:StartExecution", {"Ref": "Notify"})],
                "NotifyRole": [("sqs:SendMessage", {"Fn::GetAtt": ["Failures", "Arn"]})],
            },
        )
        self.assertNotIn("ManagedPolicyArns", roles["UploadedRole"])
        self.assertEqual(roles["NotifyRole"]["ManagedPolicyArns"], [{"Ref": "BroadcasterPolicyArn"}])

    def test_the_upload_example_loses_no_event(self):
        template = read("examples/s3-upload/template.yaml")
        failures = {"Fn::GetAtt": ["Failures", "Arn"]}
        [rule] = of_type(template, "AWS::Events::Rule").values()
        [target] = rule["Targets"]
        self.assertEqual(target["DeadLetterConfig"], {"Arn": failures})
        [policy] = of_type(template, "AWS::SQS::QueuePolicy").values()
        [statement] = policy["PolicyDocument"]["Statement"]
        self.assertEqual(statement["Condition"], {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["Uploaded", "Arn"]}}})
        states = template["Resources"]["Notify"]["Properties"]["Definition"]["States"]
        [caught] = states["Broadcast"]["Catch"]
        self.assertEqual((caught["ErrorEquals"], caught["Next"]), (["States.ALL"], "Keep"))
        self.assertEqual(states["Keep"]["Arguments"]["QueueUrl"], {"Ref": "Failures"})

    def test_those_in_the_tools_documentation_hold(self):
        for module in (channels, origins, parameters):
            self.assertEqual(doctest.testmod(module).failed, 0, module.__name__)


class Alarms(unittest.TestCase):
    template = read("template.yaml")
    alarms = of_type(read("infra/alarms.yaml"), "AWS::CloudWatch::Alarm")

    def metrics(self, alarm):
        """Namespace and name of every metric of an alarm."""
        if "MetricName" in alarm:
            yield alarm["Namespace"], alarm["MetricName"]
        for query in alarm.get("Metrics", []):
            if "MetricStat" in query:
                metric = query["MetricStat"]["Metric"]
                yield metric["Namespace"], metric["MetricName"]

    def runbooks(self):
        """The page that each alarm's description names."""
        runbooks = {}
        for name, alarm in self.alarms.items():
            description = " ".join(alarm["AlarmDescription"].split())
            runbook = re.search(r"Runbook: docs/runbooks/([a-z-]+\.md)$", description)
            self.assertTrue(runbook, f"{name} names no runbook")
            runbooks[alarm["AlarmName"]["Fn::Sub"].removeprefix("${Stack}-")] = runbook[1]
        return runbooks

    def test_each_has_a_runbook_and_no_runbook_is_without_an_alarm(self):
        runbooks = self.runbooks()
        self.assertGreater(len(runbooks), 30)
        pages = {page.relative_to(RUNBOOKS).as_posix() for page in RUNBOOKS.rglob("*") if page.is_file()}
        self.assertEqual(pages, {"README.md", *runbooks.values()})
        for page in runbooks.values():
            title = (RUNBOOKS / page).read_text().splitlines()[0]
            self.assertEqual(title, f"# {page.removesuffix('.md')}")

    def test_the_index_lists_each_with_its_page(self):
        listed = {}
        for line in (RUNBOOKS / "README.md").read_text().splitlines():
            if line.startswith("| `"):
                cells = line.split("|")
                names = re.findall(r"`([a-z-]+)`", cells[1])
                [page] = re.findall(r"\]\(([a-z-]+\.md)\)", cells[4])
                # `throttles-connect`, `-default` is short for the second's whole name.
                stem = names[0].rsplit("-", 1)[0]
                listed |= {stem + name if name.startswith("-") else name: page for name in names}
        self.assertEqual(listed, self.runbooks())

    def test_each_notifies_the_topic(self):
        for name, alarm in self.alarms.items():
            self.assertIn("AlarmActions", alarm, name)
            self.assertIn("OKActions", alarm, name)
            self.assertIn("TreatMissingData", alarm, name)

    def test_belfry_writes_the_metrics(self):
        written = quoted("crates/aws/src/metrics.rs")
        for name, alarm in self.alarms.items():
            for namespace, metric in self.metrics(alarm):
                if namespace == "Belfry":
                    self.assertIn(metric, written, name)

    def test_belfry_writes_the_values_of_their_dimensions(self):
        written = quoted("crates/aws/src/metrics.rs") | quoted("crates/protocol/src/error.rs")
        seen = set()
        for name, alarm in self.alarms.items():
            queries = [query["MetricStat"]["Metric"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
            for metric in [alarm, *queries]:
                for dimension in metric.get("Dimensions", []):
                    if dimension["Name"] in ("Reason", "Code", "Type"):
                        self.assertIn(dimension["Value"], written, name)
                        seen.add(dimension["Value"])
        self.assertGreaterEqual(len(seen), 8)

    def test_each_function_is_watched(self):
        for function in FUNCTIONS:
            parameter = {"Ref": f"{function}Function"}
            watched = {
                metric
                for alarm in self.alarms.values()
                for _, metric in self.metrics(alarm)
                if {"Name": "FunctionName", "Value": parameter} in alarm.get("Dimensions", [])
            }
            self.assertLessEqual({"Errors", "Throttles", "Duration"}, watched, function)

    def test_each_destination_is_watched(self):
        configs = of_type(expanded(), "AWS::Lambda::EventInvokeConfig").values()
        with_destination = {config["FunctionName"]["Ref"] for config in configs}
        watched = {
            dimension["Value"]["Ref"].removesuffix("Function")
            for alarm in self.alarms.values()
            if ("AWS/Lambda", "DestinationDeliveryFailures") in self.metrics(alarm)
            for dimension in alarm["Dimensions"]
        }
        self.assertEqual(watched, with_destination)

    def test_final_failures_go_to_the_watched_queue(self):
        # The runbook of broadcast-slow relies on it for broadcasts that never
        # finish.
        for name in ("Broadcaster", "Worker", "Operator"):
            config = of_type(self.template, "AWS::Serverless::Function")[name]["EventInvokeConfig"]
            destination = config["DestinationConfig"]["OnFailure"]["Destination"]
            self.assertEqual(destination, {"Fn::GetAtt": ["Failures", "Arn"]}, name)
            # Lambda's default: three tries within six hours.
            self.assertEqual(set(config), {"DestinationConfig"}, name)
        given = of_type(self.template, "AWS::CloudFormation::Stack")["Alarms"]["Parameters"]
        self.assertEqual(given["FailuresQueue"], {"Fn::GetAtt": ["Failures", "QueueName"]})
        waiting = self.alarms["DeadLettersWaiting"]
        self.assertEqual(waiting["Dimensions"], [{"Name": "QueueName", "Value": {"Ref": "FailuresQueue"}}])

    def test_a_broadcast_with_the_defaults_is_not_slow(self):
        self.assertEqual(self.alarms["BroadcastSlow"]["Threshold"], {"Ref": "SlowBroadcastMs"})
        given = of_type(self.template, "AWS::CloudFormation::Stack")["Alarms"]["Parameters"]
        self.assertEqual(given["SlowBroadcastMs"], {"Ref": "SlowBroadcastMs"})
        default = {name: value["Default"] for name, value in self.template["Parameters"].items()}
        segments = min(-(-default["MaxConnections"] // default["ConnectionsPerWorker"]), default["MaxWorkers"])
        seconds = default["MaxConnections"] / (default["PostsPerSecond"] / default["MaxWorkers"] * segments)
        # Lambda retries after one minute, and once more after two.
        self.assertGreater(default["SlowBroadcastMs"], 1000 * (60 + 120 + 10 * seconds))

    def test_the_stack_warns_before_it_refuses(self):
        near = self.alarms["ConnectionsNearLimit"]
        percent, opened = near["Metrics"]
        self.assertEqual(percent["Expression"], {"Fn::Sub": "100 * open / ${MaxConnections}"})
        self.assertEqual(opened["MetricStat"]["Metric"]["MetricName"], "ConnectionsOpen")
        self.assertEqual((near["ComparisonOperator"], near["Threshold"]), ("GreaterThanThreshold", 80))
        given = of_type(self.template, "AWS::CloudFormation::Stack")["Alarms"]["Parameters"]["MaxConnections"]
        connect = of_type(self.template, "AWS::Serverless::Function")["Connect"]
        self.assertEqual(given, connect["Environment"]["Variables"]["MAX_CONNECTIONS"])

    def test_what_is_watched_names_every_runbook(self):
        watched = OPERATIONS.split("\n### What is watched\n")[1].split("\n### ")[0]
        self.assertEqual(set(re.findall(r"\(runbooks/([a-z-]+\.md)", watched)), set(self.runbooks().values()))

    def test_their_number_is_documented(self):
        resources = read("infra/alarms.yaml")["Resources"]
        alarms = [alarm for name, alarm in self.alarms.items() if "Condition" not in resources[name]]
        number = len(alarms)
        metrics = sum(len(list(self.metrics(alarm))) for alarm in alarms)
        plain = sum("MetricName" in alarm for alarm in alarms)
        for text in (
            f"ok    {number} alarms exist",
            # The emulator accepts none on expressions.
            f"finds {plain} alarms there, not {number})",
            f"| {number} alarms with {metrics} metrics | $0.10 a metric | ${metrics / 10:.2f} |",
            f"{len(self.alarms) - number} alarms more",
        ):
            self.assertIn(text, OPERATIONS)

    def test_long_durations_are_four_fifths_of_the_timeout(self):
        functions = of_type(self.template, "AWS::Serverless::Function")
        for function in FUNCTIONS:
            alarm = self.alarms[f"Duration{function}"]
            self.assertEqual(alarm["Threshold"], functions[function]["Timeout"] * 800, function)

    def test_the_dashboard_lists_each(self):
        [dashboard] = of_type(read("infra/dashboard.yaml"), "AWS::CloudWatch::Dashboard").values()
        body = json.dumps(dashboard["DashboardBody"])
        for alarm in self.alarms.values():
            self.assertIn(alarm["AlarmName"]["Fn::Sub"].removeprefix("${Stack}-"), body)


class Queries(unittest.TestCase):
    def test_they_filter_on_documented_events(self):
        logs = (ROOT / "docs/ARCHITECTURE.md").read_text().split("\n## Logs\n")[1].split("\n## ")[0]
        documented = set(re.findall(r"^\| `([a-z.-]+)` \|", logs, re.MULTILINE))
        self.assertGreater(len(documented), 20)
        seen = set()
        for page in [ROOT / "docs/OPERATIONS.md", *RUNBOOKS.glob("*.md")]:
            text = page.read_text()
            # The message is for people and may change.
            self.assertNotRegex(text, r"filter message\b", page.name)
            for filtered in re.findall(r'\bevent (?:= ("[^"]*")|in \[([^]]*)\])', text):
                events = set(re.findall(r'"([^"]*)"', "".join(filtered)))
                self.assertTrue(events, f"{page.name}: {filtered}")
                self.assertLessEqual(events, documented, page.name)
                seen |= events
        self.assertGreater(len(seen), 10)


class Settings(unittest.TestCase):
    maxDiff = None
    """A value that the template accepts and a function refuses would show only at
    the first handshake, as 502."""

    template = read("template.yaml")

    def bounds(self):
        """Default, least and most of every number that a function reads, by variable."""
        files = (ROOT / "crates/functions/src").glob("*.rs")
        source = "".join(path.read_text().split("#[cfg(test)]")[0] for path in files)
        known = {"MAX_FRAME_BYTES as u64": 128 * 1024}
        number = r'\.number\(\s*"([A-Z_]+)",\s*([0-9_]+),\s*([0-9_]+)\.\.=([^,)]+?),?\s*\)'
        for name, default, least, most in re.findall(number, source):
            yield name, int(default), int(least), known.get(most) or int(most)
        count = r'\.count\(\s*"([A-Z_]+)",\s*([0-9_]+),\s*([0-9_]+),?\s*\)'
        for name, default, most in re.findall(count, source):
            yield name, int(default), 1, int(most)

    def parameters(self):
        """The parameters that variables of functions are set to."""
        functions = of_type(self.template, "AWS::Serverless::Function").values()
        for function in (self.template["Globals"]["Function"], *functions):
            for name, value in function.get("Environment", {}).get("Variables", {}).items():
                if isinstance(value, dict) and value.get("Ref") in self.template["Parameters"]:
                    yield name, value["Ref"]

    def test_the_template_accepts_the_numbers_that_the_functions_accept(self):
        read = {name: tuple(bounds) for name, *bounds in self.bounds()}
        set_by_template = {
            name: tuple(parameter[key] for key in ("Default", "MinValue", "MaxValue"))
            for name, ref in self.parameters()
            if (parameter := self.template["Parameters"][ref])["Type"] == "Number"
        }
        self.assertGreater(len(read), 10)
        self.assertEqual(read, set_by_template)

    def test_no_row_expires_before_its_connection_may(self):
        # Rules cannot compare numbers, so the bounds must hold whatever the values are.
        declared = self.template["Parameters"]
        longest = declared["ConnectionLifetimeSeconds"]["MaxValue"]
        self.assertGreaterEqual(declared["ConnectionTtlSeconds"]["MinValue"], longest)


class Commands(unittest.TestCase):
    def test_git_ignores_what_documented_commands_write(self):
        # Redirections, the last argument of `aws lambda invoke`, and `-m venv`.
        files = re.compile(
            r"> ([\w-]+\.\w+)$|\.json \\?\n?.*? ([\w-]+\.json)(?: &&|$)|-m venv ([\w./-]+)", re.MULTILINE
        )
        # What a command writes into the folder that it runs in.
        leaves = {"npm ci": "node_modules/x", "npm start": "dist/x", "deploy --guided": "samconfig.toml"}
        listed = subprocess.run(
            ["git", "ls-files", "-z", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True,
        )
        found = set()
        for page in filter(None, listed.stdout.split("\0")):
            text = (ROOT / page).read_text()
            found |= {name for names in files.findall(text) for name in names if name}
            for block in re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
                folder = re.search(r"\bcd (\S+) &&", block)
                path = f"{folder[1]}/" if folder else ""
                found |= {path + name for command, name in leaves.items() if command in block}
        self.assertLessEqual({"letters.json", "report.json", "resume.json", "sign-out.json"}, found)
        self.assertLessEqual({".venv/example", "examples/python/samconfig.toml", "examples/typescript/dist/x"}, found)
        for name in found:
            ignored = subprocess.run(["git", "check-ignore", "--quiet", name], cwd=ROOT, check=False)
            self.assertEqual(ignored.returncode, 0, name)


class Recipes(unittest.TestCase):
    """The deploy test builds with the debug profile. These are the commands that
    both profiles run."""

    def refused(self, *words):
        done = subprocess.run(
            ["make", "--no-print-directory", *words],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )
        self.assertEqual(done.returncode, 2, done.stdout)
        return done.stderr

    def test_parameters_are_checked_before_anything_is_built(self):
        for goals in (["deploy"], ["build", "deploy"]):
            said = self.refused(*goals, "PARAMETERS=MaxConnection=100")
            self.assertIn("did you mean MaxConnections", said)
        said = self.refused("build", "CHANNELS=nowhere.json")
        self.assertIn("Cannot read nowhere.json", said)
        said = self.refused("deploy", "MaxConnections=100")
        self.assertIn('write PARAMETERS="MaxConnections=…"', said)

    def build(self, **variables):
        named = [f"{name}={value}" for name, value in variables.items()]
        done = subprocess.run(
            ["make", "--no-print-directory", "--dry-run", "build", *named],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )
        return done.stdout

    def test_people_build_the_release_profile(self):
        commands = self.build(BUILD_PROFILE="release", BUILD_DIR=".aws-sam/build")
        self.assertIn("--release", commands)
        # SAM knows no other mode than debug.
        self.assertNotIn("SAM_BUILD_MODE", commands)
        self.assertIn("sam build --build-dir .aws-sam/build", commands)

    def test_the_deploy_test_builds_the_debug_profile_elsewhere(self):
        commands = self.build(BUILD_PROFILE="debug", BUILD_DIR=".aws-sam/test")
        self.assertNotIn("--release", commands)
        self.assertIn("SAM_BUILD_MODE=debug", commands)
        self.assertIn("sam build --build-dir .aws-sam/test", commands)


if __name__ == "__main__":
    unittest.main()
