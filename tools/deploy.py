"""Deploys what `make build` has built, with the SAM CLI and samconfig.toml.

Against an emulator on this machine (AWS_ENDPOINT_URL) it does what an emulator
needs beside: it leaves out a resource that is not known there, and deploys a
second time with the addresses that are only known after the first.
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

from belfry_stack import emulator, outputs, session, websocket_url

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / ".aws-sam" / "build" / "template.yaml"

# What MiniStack refuses, by the stack that it is in.
NOT_EMULATED = {
    # A type that it does not know. It sends what a function returns anyway.
    "": ["DefaultRouteResponse"],
    # Alarms on expressions.
    "Alarms": [
        "ApiIntegrationErrors",
        "BroadcastFailures",
        "ConnectionsNearLimit",
        "RefusedToken",
        "SweepFailures",
        "TableThrottlesConnections",
        "TableThrottlesState",
    ],
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sam", default="sam", help="the SAM CLI")
    parser.add_argument("--config", default="default", help="a section of samconfig.toml")
    parser.add_argument("--stack", help="the stack's name, instead of samconfig.toml's")
    parser.add_argument(
        "parameters", nargs="*", metavar="NAME=VALUE", help="parameters of template.yaml"
    )
    given = parser.parse_args()
    for parameter in given.parameters:
        if "=" not in parameter:
            parser.error(f"{parameter}: a parameter is written NAME=VALUE")
    return given


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as their long ones."""


def long_form(loader, tag, node):
    name = tag if tag in ("Ref", "Condition") else f"Fn::{tag}"
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if tag == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {name: value}


Loader.add_multi_constructor("!", long_form)


def emulated(built, names):
    """A built template without these resources."""
    template = yaml.load(built.read_text(), Loader)
    for name in names:
        if template["Resources"].pop(name, None) is None:
            sys.exit(f"{name} is not in {built}: take it off NOT_EMULATED in {__file__}")
        print(f"Left out {name}, which the emulator refuses.", flush=True)
    return template


def write(template, path):
    # A version is a date for YAML, and JSON has none.
    path.write_text(json.dumps(template, default=str))


def emulated_template():
    """The built templates without what is not emulated, beside them."""
    template = emulated(BUILT, NOT_EMULATED[""])
    for nested, names in NOT_EMULATED.items():
        if nested:
            path = BUILT.parent / nested / "emulated.json"
            write(emulated(path.with_name("template.yaml"), names), path)
            template["Resources"][nested]["Properties"]["TemplateURL"] = f"{nested}/{path.name}"
    path = BUILT.with_name("emulated.json")
    write(template, path)
    return path


def with_architecture(parameters):
    """The parameters with the processor that the functions were built for:
    with another one each would end at its start."""
    machines = {0x3E: "x86_64", 0xB7: "arm64"}
    # e_machine of an ELF file's head.
    binary = next(BUILT.parent.glob("*/bootstrap")).read_bytes()
    built = machines.get(int.from_bytes(binary[18:20], "little"), "something else")
    wanted = parameters.setdefault("Architecture", built)
    if wanted != built:
        sys.exit(f"The functions are built for {built}: run `make build ARCHITECTURE={wanted}`.")
    return parameters


def check_stage(session, stack, stage):
    """Another stage is another address, and ends every connection: nobody gets
    there by naming a stack and forgetting its section of samconfig.toml."""
    try:
        answer = session.client("cloudformation").describe_stacks(StackName=stack)
    except ClientError:
        return
    known = {p["ParameterKey"]: p["ParameterValue"] for p in answer["Stacks"][0].get("Parameters", [])}
    if stage and known.get("Stage", stage) != stage:
        sys.exit(
            f"{stack} has the stage {known['Stage']}, and this would make it {stage}: every connection "
            f"would end, and clients would need another address.\nName the right section of "
            f"samconfig.toml with CONFIG=…, or say it: PARAMETERS=Stage={stage}"
        )


def check_access_log(session, parameters):
    """Deploying would fail after minutes, with a hint that few understand."""
    if parameters.get("AccessLog") != "true" or emulator():
        return
    try:
        account = session.client("apigateway").get_account()
    except ClientError:
        # Whoever may deploy need not be allowed to look.
        return
    if not account.get("cloudwatchRoleArn"):
        sys.exit(
            "AccessLog=true needs a role that API Gateway writes logs with, once for each account "
            "and region. Make it:\n"
            "  aws cloudformation deploy --template-file infra/account.yaml "
            "--stack-name api-gateway-logs --capabilities CAPABILITY_IAM\n"
            "or deploy with AccessLog=false."
        )


def main():
    given = arguments()
    if not BUILT.is_file():
        sys.exit("Nothing is built yet: run `make build`.")
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    if given.config not in config:
        known = ", ".join(name for name in config if name != "version")
        sys.exit(f"samconfig.toml has no section {given.config}; it has {known}.")
    config = config[given.config]
    stack = given.stack or config["global"]["parameters"]["stack_name"]
    overrides = config["deploy"]["parameters"]["parameter_overrides"] + given.parameters
    parameters = dict(parameter.split("=", 1) for parameter in overrides)

    parameters = with_architecture(parameters)

    aws = session()
    check_access_log(aws, parameters)
    if "Stage" not in dict(parameter.split("=", 1) for parameter in given.parameters):
        check_stage(aws, stack, parameters.get("Stage"))
    template = emulated_template() if emulator() else BUILT

    def deploy(parameters):
        command = [given.sam, "deploy", "--template-file", str(template)]
        command += ["--config-file", str(ROOT / "samconfig.toml"), "--config-env", given.config]
        command += ["--stack-name", stack, "--region", aws.region_name]
        if not sys.stdin.isatty():
            # Nobody is there to be asked.
            command += ["--no-confirm-changeset"]
        # In quotes, or SAM takes nothing for a mistake and a space for the end.
        command += ["--parameter-overrides"] + [f'{n}="{v}"' for n, v in parameters.items()]
        done = subprocess.run(command, cwd=ROOT, env=os.environ, check=False)
        if done.returncode:
            sys.exit(done.returncode)

    deploy(parameters)
    found = outputs(aws, stack)
    if emulator() and not found["CallbackUrl"].startswith(emulator()):
        local = {
            "CallbackEndpoint": f"{emulator()}/_aws/execute-api/{found['ApiId']}/{parameters.get('Stage', 'dev')}",
        }
        if "UserPoolId" in found:
            local["TokenJwksUrl"] = f"{emulator()}/{found['UserPoolId']}/.well-known/jwks.json"
        print("Once more, with addresses that are known now.", flush=True)
        deploy(parameters | local)
        found = outputs(aws, stack)
    print(f"\nDeployed {stack}:")
    for name, value in sorted(found.items()):
        print(f"  {name:27} {value}")
    print(f"\nClients connect to {websocket_url(found)}")
    print(f"Try it: make smoke STACK={stack}")


if __name__ == "__main__":
    main()
