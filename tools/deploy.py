"""Deploys the built functions with the SAM CLI and samconfig.toml.

For a local emulator (AWS_ENDPOINT_URL) it leaves out the resources that the
emulator refuses, and deploys a second time with the addresses that are known
only after the first.
"""

import argparse
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from botocore.exceptions import ClientError

import channels
import commands
import elf
from belfry_stack import emulator, outputs, session, websocket_url
from parameters import Loader, check, override, parse

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / os.environ.get("BUILD_DIR", ".aws-sam/build") / "template.yaml"

# Resources that MiniStack refuses, by nested stack.
NOT_EMULATED = {
    # An unknown type there. MiniStack sends a function's answer without it.
    "": ["DefaultRouteResponse"],
    # Alarms on expressions.
    "Alarms": [
        "ApiIntegrationErrors",
        "AppendConflicts",
        "BroadcastFailures",
        "ConnectionsNearLimit",
        "RefusedToken",
        "SweepFailures",
        "TableThrottlesConnections",
        "TableThrottlesMessages",
        "TableThrottlesSubscriptions",
        "TableThrottlesState",
    ],
}


def arguments():
    program = "./deploy" if commands.IS_RELEASE else None
    parser = argparse.ArgumentParser(program, description=__doc__.splitlines()[0])
    parser.add_argument("--sam", default="sam", help="the SAM CLI")
    parser.add_argument("--config", default="default", help="a section of samconfig.toml")
    parser.add_argument("--stack", help="the stack name, instead of the one in samconfig.toml")
    parser.add_argument("--channels", default=ROOT / "channels.json", help="the rules of channels")
    parser.add_argument(
        "parameters", nargs="*", metavar="NAME=VALUE", help="a parameter of template.yaml"
    )
    return parser.parse_args()


def emulated(built, names):
    """A built template without the named resources."""
    template = yaml.load(built.read_text(), Loader)
    for name in names:
        if template["Resources"].pop(name, None) is None:
            sys.exit(f"{name} is not in {built}: remove it from NOT_EMULATED in {__file__}")
        print(f"Left out {name}, which the emulator refuses.", flush=True)
    return template


def write(template, path):
    # YAML reads a version as a date, which JSON does not have.
    path.write_text(json.dumps(template, default=str))


def emulated_template():
    """Writes the built templates without the refused resources, beside the originals."""
    template = emulated(BUILT, NOT_EMULATED[""])
    for nested, names in NOT_EMULATED.items():
        if nested:
            properties = template["Resources"][nested]["Properties"]
            original = BUILT.parent / properties["TemplateURL"]
            path = original.with_name("emulated.json")
            write(emulated(original, names), path)
            properties["TemplateURL"] = str(path.relative_to(BUILT.parent))
    path = BUILT.with_name("emulated.json")
    write(template, path)
    return path


def with_architecture(parameters):
    """The parameters with the architecture that the functions were built for:
    with another one every function would fail at startup."""
    function = yaml.load(BUILT.read_text(), Loader)["Resources"]["Connect"]["Properties"]
    built = elf.architecture(BUILT.parent / function["CodeUri"] / "bootstrap")
    wanted = parameters.setdefault("Architecture", built)
    if wanted != built:
        sys.exit(f"The functions are built for {built}: {commands.for_architecture(wanted)}.")
    return parameters


def check_stage(session, stack, stage):
    """Refuses to change a stack's stage by accident, when somebody names the stack
    and forgets its section of samconfig.toml: a new stage has a new URL and ends
    every connection."""
    try:
        answer = session.client("cloudformation").describe_stacks(StackName=stack)
    except ClientError:
        return
    known = {p["ParameterKey"]: p["ParameterValue"] for p in answer["Stacks"][0].get("Parameters", [])}
    if stage and known.get("Stage", stage) != stage:
        sys.exit(
            f"{stack} has the stage {known['Stage']}. Changing it to {stage} would end every connection "
            f"and give clients a new URL.\nName the right section of samconfig.toml with {commands.CONFIG}, or "
            f"confirm the change with {commands.parameter('Stage', stage)}"
        )


def check_access_log(session, parameters):
    """Fails early: without the role the deploy would fail after minutes, with an
    obscure message."""
    if parameters.get("AccessLog") != "true" or emulator():
        return
    try:
        account = session.client("apigateway").get_account()
    except ClientError:
        # A deployer may lack the permission to read this.
        return
    if not account.get("cloudwatchRoleArn"):
        sys.exit(
            "AccessLog=true needs a role that API Gateway uses to write logs, once per account and "
            "region. Create it:\n"
            "  aws cloudformation deploy --template-file infra/account.yaml "
            "--stack-name api-gateway-logs --capabilities CAPABILITY_IAM\n"
            "or deploy with AccessLog=false."
        )


def local_addresses(found):
    """The parameters with the emulator's own addresses, which are known only after
    a deploy and change with the stage."""
    stage = found["WebSocketUrl"].rsplit("/", 1)[1]
    local = {"CallbackEndpoint": f"{emulator()}/_aws/execute-api/{found['ApiId']}/{stage}"}
    if "UserPoolId" in found:
        local["TokenJwksUrl"] = f"{emulator()}/{found['UserPoolId']}/.well-known/jwks.json"
    return local


def main():
    given = arguments()
    if not BUILT.is_file():
        sys.exit("Nothing is built yet. Run `make build`.")
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    if given.config not in config:
        known = ", ".join(name for name in config if name != "version")
        sys.exit(f"samconfig.toml has no section {given.config}; it has {known}.")
    config = config[given.config]
    parameters = parse(config["deploy"]["parameters"]["parameter_overrides"] + given.parameters)
    if "ChannelRules" not in parameters:
        parameters["ChannelRules"] = channels.read(given.channels)
    check(parameters)
    stack = given.stack or config["global"]["parameters"]["stack_name"]
    parameters = with_architecture(parameters)

    aws = session()
    check_access_log(aws, parameters)
    if "Stage" not in parse(given.parameters):
        check_stage(aws, stack, parameters.get("Stage"))
    template = emulated_template() if emulator() else BUILT

    def deploy(parameters):
        command = [given.sam, "deploy", "--template-file", str(template)]
        command += ["--config-file", str(ROOT / "samconfig.toml"), "--config-env", given.config]
        command += ["--stack-name", stack, "--region", aws.region_name]
        if not sys.stdin.isatty():
            # There is nobody to ask.
            command += ["--no-confirm-changeset"]
        command += ["--parameter-overrides", *(override(n, v) for n, v in parameters.items())]
        done = subprocess.run(command, cwd=ROOT, env=os.environ, check=False)
        if done.returncode:
            sys.exit(done.returncode)

    deploy(parameters)
    found = outputs(aws, stack)
    # The stack keeps these parameters, so those of an earlier stage must go.
    local = local_addresses(found) if emulator() else {}
    local = {name: value for name, value in local.items() if name not in parameters}
    if local.get("CallbackEndpoint", found["CallbackUrl"]) != found["CallbackUrl"]:
        print("Deploying again, with the addresses that are known now.", flush=True)
        deploy(parameters | local)
        found = outputs(aws, stack)
    print(f"\nDeployed {stack}:")
    for name, value in sorted(found.items()):
        print(f"  {name:27} {value}")
    print(f"\nClients connect to {websocket_url(found)}")
    print(f"Test it: {commands.smoke(stack)}")


if __name__ == "__main__":
    main()
