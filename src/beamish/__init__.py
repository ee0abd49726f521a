"""Beamish: OTP for Python. GenServers, supervision trees and what is built on them, on asyncio.

Start reading at `gen_server`, then `supervisor`. The layers are drawn in docs/architecture.md; public names are these:
"""

from beamish import (
    application as application,
    blocking as blocking,
    codec as codec,
    errors as errors,
    ets as ets,
    persistent_term as persistent_term,
    snapshot as snapshot,
    sys as sys,
    telemetry as telemetry,
)
from beamish._address import At as At, NameServer as NameServer, Via as Via
from beamish._answers import (
    Answer as Answer,
    Continue as Continue,
    Hibernate as Hibernate,
    Ignore as Ignore,
    Init as Init,
    NoReply as NoReply,
    Reply as Reply,
    Stop as Stop,
    Timeout as Timeout,
)
from beamish._client import call as call, cast as cast
from beamish._report import Status as Status
from beamish._run import run as run, supervise as supervise
from beamish._runtime.client import Client as Client
from beamish._runtime.clock import Clock as Clock
from beamish._runtime.ids import Pid as Pid, Ref as Ref
from beamish._runtime.process import Alias as Alias, MonitorRef as MonitorRef
from beamish._runtime.signals import Cancelled as Cancelled, Down as Down, Exited as Exited, TimedOut as TimedOut
from beamish._stream import Ended as Ended, Stream as Stream
from beamish._watchdog import Watchdog as Watchdog
from beamish.agent import Agent as Agent
from beamish.application import (
    Application as Application,
    ApplicationError as ApplicationError,
    ApplicationTerminated as ApplicationTerminated,
    NotStarted as NotStarted,
)
from beamish.child_spec import BadChildSpec as BadChildSpec, ChildSpec as ChildSpec, child as child
from beamish.dynamic_supervisor import DynamicSupervisor as DynamicSupervisor, MaxChildren as MaxChildren
from beamish.errors import (
    KILL as KILL,
    KILLED as KILLED,
    NOCONNECTION as NOCONNECTION,
    NOPROC as NOPROC,
    NORMAL as NORMAL,
    SHUTDOWN as SHUTDOWN,
    AlreadyStarted as AlreadyStarted,
    BadReturn as BadReturn,
    BeamishError as BeamishError,
    CallExit as CallExit,
    CallingSelf as CallingSelf,
    CallTimeout as CallTimeout,
    Crash as Crash,
    Deadlock as Deadlock,
    Exit as Exit,
    FailedToStart as FailedToStart,
    Ignored as Ignored,
    Kill as Kill,
    Killed as Killed,
    NoConnection as NoConnection,
    NoProc as NoProc,
    NoProcess as NoProcess,
    Normal as Normal,
    Overloaded as Overloaded,
    ServerDown as ServerDown,
    Shutdown as Shutdown,
    StartError as StartError,
    SupervisorGaveUp as SupervisorGaveUp,
    WrongLoop as WrongLoop,
    WrongServer as WrongServer,
)
from beamish.gen import Request as Request, client as client, reply as reply, stop as stop
from beamish.gen_server import GenServer as GenServer, Message as Message, MultiCall as MultiCall
from beamish.messages import alias as alias, receive as receive, send as send, unalias as unalias
from beamish.partition_supervisor import PartitionSupervisor as PartitionSupervisor
from beamish.process import (
    alive as alive,
    current as current,
    demonitor as demonitor,
    disown as disown,
    down as down,
    exit as exit,
    flag as flag,
    link as link,
    monitor as monitor,
    node as node,
    own as own,
    register as register,
    registered as registered,
    spawn as spawn,
    spawn_link as spawn_link,
    spawn_monitor as spawn_monitor,
    unlink as unlink,
    unregister as unregister,
    whereis as whereis,
)
from beamish.process_info import (
    ProcessInfo as ProcessInfo,
    ancestors as ancestors,
    callers as callers,
    dictionary as dictionary,
    get_label as get_label,
    info as info,
    processes as processes,
    set_label as set_label,
)
from beamish.registry import (
    AlreadyRegistered as AlreadyRegistered,
    Registered as Registered,
    Registry as Registry,
    RegistryEntry as RegistryEntry,
    Unregistered as Unregistered,
)
from beamish.snapshot import Snapshot as Snapshot
from beamish.state_machine import (
    Action as Action,
    Begin as Begin,
    Call as Call,
    Cast as Cast,
    Event as Event,
    EventTimeout as EventTimeout,
    GenericTimeout as GenericTimeout,
    Info as Info,
    Internal as Internal,
    Keep as Keep,
    Next as Next,
    Postpone as Postpone,
    Repeat as Repeat,
    StateMachine as StateMachine,
    StateTimeout as StateTimeout,
    Transition as Transition,
    UnhandledEvent as UnhandledEvent,
    when as when,
)
from beamish.supervisor import (
    AlreadyPresent as AlreadyPresent,
    ChildCounts as ChildCounts,
    ChildInfo as ChildInfo,
    NotFound as NotFound,
    Restarting as Restarting,
    StillRunning as StillRunning,
    Supervisor as Supervisor,
    SupervisorError as SupervisorError,
)
from beamish.task import (
    Failed as Failed,
    NotOwner as NotOwner,
    Ok as Ok,
    Replied as Replied,
    Task as Task,
    TaskExit as TaskExit,
    TaskStream as TaskStream,
    TaskTimeout as TaskTimeout,
    Threads as Threads,
)
from beamish.task_supervisor import TaskSupervisor as TaskSupervisor
from beamish.timer import (
    cancel_timer as cancel_timer,
    monotonic as monotonic,
    read_timer as read_timer,
    send_after as send_after,
    send_interval as send_interval,
)

#: What `from beamish import *` brings: not `sys`, `errors` and `exit`, which would hide Python's own.
__all__ = [
    "Action", "Agent", "Alias", "AlreadyPresent", "AlreadyRegistered", "AlreadyStarted", "Answer", "Application",
    "ApplicationError", "ApplicationTerminated", "At", "BadChildSpec", "BadReturn", "BeamishError", "Begin", "Call", "CallExit",
    "CallTimeout", "CallingSelf", "Cancelled", "Cast", "ChildCounts", "ChildInfo", "ChildSpec", "Client", "Clock", "Continue",
    "Crash", "Deadlock", "Down", "DynamicSupervisor", "Ended", "Event", "EventTimeout", "Exit", "Exited", "Failed",
    "FailedToStart", "GenServer", "GenericTimeout", "Hibernate", "Ignore", "Ignored", "Info", "Init", "Internal", "KILL",
    "KILLED", "Keep", "Kill", "Killed", "MaxChildren", "Message", "MonitorRef", "MultiCall", "NOCONNECTION", "NOPROC", "NORMAL",
    "NameServer", "Next", "NoConnection", "NoProc", "NoProcess", "NoReply", "Normal", "NotFound", "NotOwner", "NotStarted",
    "Ok", "Overloaded", "PartitionSupervisor", "Pid", "Postpone", "ProcessInfo", "Ref", "Registered", "Registry",
    "RegistryEntry", "Repeat", "Replied", "Reply", "Request", "Restarting", "SHUTDOWN", "ServerDown", "Shutdown", "Snapshot", "StartError",
    "StateMachine", "StateTimeout", "Status", "StillRunning", "Stop", "Stream", "Supervisor", "SupervisorError",
    "SupervisorGaveUp", "Task", "TaskExit", "TaskStream", "TaskSupervisor", "TaskTimeout", "Threads", "TimedOut", "Timeout",
    "Transition", "UnhandledEvent", "Unregistered", "Via", "Watchdog", "WrongLoop", "WrongServer", "alias", "alive",
    "ancestors", "application", "blocking", "call", "callers", "cancel_timer", "cast", "child", "client", "codec", "current",
    "demonitor", "dictionary", "disown", "down", "ets", "flag", "get_label", "info", "link", "monitor", "monotonic", "node",
    "own", "persistent_term", "processes", "read_timer", "receive", "register", "registered", "reply", "run", "send",
    "send_after", "send_interval", "set_label", "snapshot", "spawn", "spawn_link", "spawn_monitor", "stop", "supervise", "telemetry",
    "unalias", "unlink", "unregister", "when", "whereis",
]  # fmt: skip

__version__ = "0.1.0"
