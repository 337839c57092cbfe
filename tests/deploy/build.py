"""A copy of the built functions that a test changes."""

import io
import json
import os
import shutil
import zipfile

import yaml

from parameters import Loader

# The functions that every stack has.
FUNCTIONS = ["Connect", "Disconnect", "Default", "Broadcaster", "Worker", "Sweeper", "Operator"]


class Build:
    def __init__(self, built, path):
        self.path = path
        shutil.copytree(built, path)
        self.template = yaml.load((path / "template.yaml").read_text(), Loader)

    def change_code(self, bytes_=1):
        """Zeros after its end do not change what a program does."""
        for binary in self.path.glob("*/bootstrap"):
            os.truncate(binary, binary.stat().st_size + bytes_)

    def add_broken_resource(self):
        """It fails when every function has been updated."""
        missing = "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:missing"
        self.template["Resources"]["Broken"] = {
            "Type": "AWS::Lambda::Url",
            "DependsOn": FUNCTIONS,
            "Properties": {"AuthType": "AWS_IAM", "TargetFunctionArn": {"Fn::Sub": missing}},
        }
        self._write()

    def remove_broken_resource(self):
        del self.template["Resources"]["Broken"]
        self._write()

    def _write(self):
        # YAML reads a version as a date, which JSON does not have.
        (self.path / "template.yaml").write_text(json.dumps(self.template, default=str))

    def zipped(self, function):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            file.write(self.path / function / "bootstrap", "bootstrap")
        return archive.getvalue()
