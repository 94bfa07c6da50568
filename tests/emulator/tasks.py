"""ECS tasks, the logs they write, and SQS messages: what the archive's function and validator need around them.

A task is a process that a test's command starts with the environment that the caller asked for.
"""

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, Protocol

import attrs

from tests.emulator.credentials import Keyring
from tests.emulator.services import json_response
from tests.emulator.settings import Settings
from tests.emulator.wire import Handler, Request, Response, ServiceError

CLUSTER = "default"
LOG_GROUP = "tasks"


class Process(Protocol):
    """A task while it runs, and after."""

    def is_alive(self) -> bool: ...
    def lines(self) -> list[str]: ...
    def stop(self) -> None: ...


@attrs.define
class CommandProcess:
    """A command of its own process; what it prints are the lines of the task's log."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def lines(self) -> list[str]:
        with open(self.output.name, encoding="utf-8", errors="replace") as written:
            return written.read().splitlines()

    def stop(self) -> None:
        """Kill it: a container that is stopped hard leaves nothing behind either."""
        if self.is_alive():
            self.process.kill()
        self.process.wait(10)
        self.output.close()


@attrs.frozen
class CommandRunner:
    """Starts a command as a task."""

    argv: Sequence[str]
    env: Mapping[str, str] = attrs.field(factory=dict)

    def __call__(self, environment: Mapping[str, str]) -> Process:
        output = tempfile.NamedTemporaryFile(prefix="task-", suffix=".log")  # noqa: SIM115 - lives as long as the task
        merged = {**os.environ, **self.env, **environment, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(list(self.argv), env=merged, stdout=output, stderr=subprocess.STDOUT)
        return CommandProcess(process, output)


@attrs.define
class Task:
    number: int
    process: Process
    tags: list[dict[str, str]]
    started: float


@attrs.define
class Tasks:
    """ECS, CloudWatch Logs and SQS, as far as starting a task and looking after it goes."""

    settings: Settings
    keyring: Keyring
    runner: Callable[[Mapping[str, str]], Process] | None = None
    """What RunTask starts; without one, no task can be run."""
    messages: list[str] = attrs.field(factory=list)
    """The bodies of all messages sent to any queue."""
    tasks: list[Task] = attrs.field(factory=list)
    lock: threading.Lock = attrs.field(factory=threading.Lock)

    def handlers(self) -> dict[str, dict[str, Handler]]:
        return {
            "ecs": {
                "ListClusters": self._signed(lambda _: {"clusterArns": [self._arn("cluster", CLUSTER)]}),
                "RunTask": self._signed(self.run_task),
                "ListTasks": self._signed(self.list_tasks),
                "DescribeTasks": self._signed(self.describe_tasks),
                "DescribeTaskDefinition": self._signed(self.describe_definition),
                "StopTask": self._signed(self.stop_task),
            },
            "logs": {"GetLogEvents": self._signed(self.get_log_events)},
            "sqs": {"SendMessage": self._signed(self.send_message)},
        }

    def alive(self) -> list[Task]:
        """The tasks that run now."""
        with self.lock:
            return [task for task in self.tasks if task.process.is_alive()]

    def kill_all(self) -> None:
        """End every task at once, without giving it a chance to say anything."""
        with self.lock:
            for task in self.tasks:
                task.process.stop()

    def run_task(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        if self.runner is None:
            raise ServiceError(400, "ClientException", "no task can be run here")
        overrides = asked.get("overrides", {}).get("containerOverrides", [])
        environment = {
            item["name"]: item["value"] for override in overrides for item in override.get("environment", [])
        }
        with self.lock:
            task = Task(len(self.tasks) + 1, self.runner(environment), asked.get("tags", []), self.settings.now())
            # The latest first: that is the order in which callers look for the one they have just started.
            self.tasks.insert(0, task)
        return {"tasks": [self._described(task)], "failures": []}

    def list_tasks(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        wanted = asked.get("desiredStatus", "RUNNING")
        with self.lock:
            found = [task for task in self.tasks if task.process.is_alive() == (wanted == "RUNNING")]
        return {"taskArns": [self._task_arn(task) for task in found]}

    def describe_tasks(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        with self.lock:
            found = {self._task_arn(task): task for task in self.tasks}
        described = [self._described(found[arn]) for arn in asked["tasks"] if arn in found]
        return {"tasks": described, "failures": []}

    def describe_definition(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        options = {"awslogs-group": LOG_GROUP, "awslogs-stream-prefix": "task", "awslogs-region": self.settings.region}
        container = {"name": "main", "image": "main", "logConfiguration": {"logDriver": "awslogs", "options": options}}
        family = asked["taskDefinition"].rpartition("/")[2].partition(":")[0]
        definition = {
            "family": family,
            "taskDefinitionArn": asked["taskDefinition"],
            "containerDefinitions": [container],
        }
        return {"taskDefinition": definition}

    def stop_task(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        with self.lock:
            task = next((task for task in self.tasks if asked["task"].endswith(f"/{task.number:032x}")), None)
        if task is None:
            raise ServiceError(400, "InvalidParameterException", "The referenced task was not found.")
        task.process.stop()
        return {"task": self._described(task)}

    def get_log_events(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        number = int(asked["logStreamName"].rpartition("/")[2], 16)
        with self.lock:
            task = next((task for task in self.tasks if task.number == number), None)
        if task is None:
            raise ServiceError(400, "ResourceNotFoundException", "The specified log stream does not exist.")
        now_ms = int(time.time() * 1000)
        events = [{"timestamp": now_ms, "ingestionTime": now_ms, "message": line} for line in task.process.lines()]
        return {"events": events, "nextForwardToken": "f/0", "nextBackwardToken": "b/0"}

    def send_message(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        self.messages.append(asked["MessageBody"])
        return {"MessageId": str(len(self.messages))}

    def _described(self, task: Task) -> dict[str, Any]:
        status = "RUNNING" if task.process.is_alive() else "STOPPED"
        container = {
            "containerArn": self._arn("container", f"{task.number:032x}"),
            "taskArn": self._task_arn(task),
            "name": "main",
            "image": "main",
            "lastStatus": status,
            "runtimeId": f"{task.number:032x}-1",
        }
        return {
            "taskArn": self._task_arn(task),
            "clusterArn": self._arn("cluster", CLUSTER),
            "taskDefinitionArn": self._arn("task-definition", "main:1"),
            "availabilityZone": f"{self.settings.region}a",
            "group": "family:main",
            "launchType": "FARGATE",
            "lastStatus": status,
            "desiredStatus": status,
            "startedAt": task.started,
            "tags": task.tags,
            "containers": [container],
        }

    def _task_arn(self, task: Task) -> str:
        return self._arn("task", f"{CLUSTER}/{task.number:032x}")

    def _arn(self, kind: str, name: str) -> str:
        return f"arn:aws:ecs:{self.settings.region}:{self.settings.account}:{kind}/{name}"

    def _signed(self, answer: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Handler:
        def handle(request: Request) -> Response:
            self.keyring.principal(request)
            return json_response(answer(json.loads(request.body or b"{}")))

        return handle
