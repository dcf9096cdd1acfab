---@meta
-- What recipes can call, for editors and emmylua_check. Written by `bottler lua types`; do not edit.

---An image.
---@class (exact) Image
local Image = {}

---Waits until the engine has it; returns its reference.
---@return string
function Image:ready() end

---Returns its properties.
---@return ImageInfo
function Image:inspect() end

---A network.
---@class (exact) Network
---@field name string Its name in the recipe.
local Network = {}

---Waits until the engine has it.
---@return NetworkInfo
function Network:ready() end

---Returns its properties.
---@return NetworkInfo
function Network:inspect() end

---Removes it now and waits until it is gone; a second call does nothing. `local x <close>` does this at the end of the block.
function Network:close() end

---A volume.
---@class (exact) Volume
---@field name string Its name in the recipe.
local Volume = {}

---Waits until the engine has it.
---@return VolumeInfo
function Volume:ready() end

---Returns its properties.
---@return VolumeInfo
function Volume:inspect() end

---Removes it now and waits until it is gone; a second call does nothing. `local x <close>` does this at the end of the block.
function Volume:close() end

---A sidecar.
---@class (exact) Sidecar
---@field name string Its name.
local Sidecar = {}

---Waits until it is running and ready.
function Sidecar:ready() end

---Runs a command in it, as its user; a non-zero exit code is a result.
---@param options ExecOptions
---@return ExecResult
function Sidecar:exec(options) end

---Returns the last lines of its output, both streams together.
---@param options? LogOptions
---@return string
function Sidecar:logs(options) end

---Writes a file inside it, as its user.
---@param options CopyInOptions
function Sidecar:copy_in(options) end

---Reads a file inside it, as its user; at most 16 MiB.
---@param options CopyOutOptions
---@return string
function Sidecar:copy_out(options) end

---Asks it to end, and kills it after the timeout.
---@param options? StopOptions
function Sidecar:stop(options) end

---Freezes its processes.
function Sidecar:pause() end

---Resumes its processes.
function Sidecar:unpause() end

---Returns its state.
---@return ContainerState
function Sidecar:inspect() end

---Waits until its command ends; a non-zero exit code is a result, not an error. This releases an agent.
---@param options? WaitOptions
---@return ExitResult
function Sidecar:wait(options) end

---Removes it now and waits until it is gone; a second call does nothing. `local x <close>` does this at the end of the block.
function Sidecar:close() end

---The agent.
---@class (exact) Agent
---@field name string Its name.
---@field prompt_path? string The path of its prompt file.
local Agent = {}

---Waits until it is running and ready.
function Agent:ready() end

---Runs a command in it, as its user; a non-zero exit code is a result.
---@param options ExecOptions
---@return ExecResult
function Agent:exec(options) end

---Returns the last lines of its output, both streams together.
---@param options? LogOptions
---@return string
function Agent:logs(options) end

---Writes a file inside it, as its user.
---@param options CopyInOptions
function Agent:copy_in(options) end

---Reads a file inside it, as its user; at most 16 MiB.
---@param options CopyOutOptions
---@return string
function Agent:copy_out(options) end

---Asks it to end, and kills it after the timeout.
---@param options? StopOptions
function Agent:stop(options) end

---Freezes its processes.
function Agent:pause() end

---Resumes its processes.
function Agent:unpause() end

---Returns its state.
---@return ContainerState
function Agent:inspect() end

---Waits until its command ends; a non-zero exit code is a result, not an error. This releases an agent.
---@param options? WaitOptions
---@return ExitResult
function Agent:wait(options) end

---Removes it now and waits until it is gone; a second call does nothing. `local x <close>` does this at the end of the block.
function Agent:close() end

---A bottle that this one launched.
---@class (exact) Bottle
---@field id string Its id.
---@field slug string The first part of its id.
local Bottle = {}

---Waits until its agent has ended and the bottle is removed; raises an error if the launch failed.
---@param options? WaitOptions
---@return ExitResult
function Bottle:wait(options) end

---Returns what its agent wrote to standard output, up to 1 MiB, once it has ended.
---@return string
function Bottle:output() end

---Returns what its agent wrote to standard error, up to 1 MiB, once it has ended.
---@return string
function Bottle:stderr() end

---Returns its agent's changes to the workspace as a patch, once it has ended.
---@return string
function Bottle:patch() end

---Returns its workspace as its agent left it, with the git history, to give to another bottle; `refs/bottler/start` there is the commit that the agent started from.
---@return Workspace?
function Bottle:workspace() end

---Writes the patch below the directory of the launch and returns its path; an existing file is never overwritten.
---@param path string
---@return string
function Bottle:save_patch(path) end

---Removes it now and waits until it is gone; a second call does nothing. `local x <close>` does this at the end of the block.
function Bottle:close() end

---A value that can be formatted and passed on, but not read or printed.
---@class (exact) Secret

---A workspace as an agent left it.
---@class (exact) Workspace

---What `pcall` returns if a primitive fails; raising it again raises the same failure.
---@class (exact) Failure
---@field message string What was attempted, on what, and why it failed.
---@field kind "input"|"engine"|"operation"|"name"|"isolation"|"internal"|"cancelled" The kind of failure.
---@field hint? string What to do.
---@field at? string The script line: `my.lua:3`.
---@field causes string[] Further causes, the nearest first.

---The agent's image: one that the engine has or can pull, or one to build.
---@class (exact) ImageOptions
---@field build? BuildSection How it is built, instead.
---@field pull? boolean Whether it is pulled even where the engine has it.
---@field rebuild? boolean Whether it is built even where nothing has changed.
---@field source? string `self`: made of the running executable. Anything else: an image's reference, which may end in a digest.

---How an image is built.
---@class (exact) BuildSection
---@field args? table<string, string> Values of the Dockerfile's `ARG`s. They stay in the image: do not put secrets here.
---@field context? string The folder to send to the engine, less what its `.dockerignore` names; an empty one by default.
---@field dockerfile? string The Dockerfile, below the context; `Dockerfile` by default.
---@field dockerfile_inline? string The text of the Dockerfile, instead of a file.
---@field network? "none"|"default" The network of the build's commands; `none` by default. It bypasses egress.
---@field target? string The stage to stop at.

---The options of `network_create`.
---@class (exact) NetworkOptions
---@field internal? boolean Whether it has no route out: the agent's own network, in a bottle that is not sealed.
---@field name string Its name in the recipe.

---The options of `volume_create`.
---@class (exact) VolumeOptions
---@field name string Its name in the recipe.

---The options of `sidecar_start`, except for networks and the sidecars that egress may reach.
---@class (exact) SidecarOptions
---@field allow? (string|AllowTable)[] For egress: what the agent may reach: hosts, tables, presets such as "@pypi".
---@field name string Its name, also of its container, its relay and its hooks.
---@field role "egress"|"counterpart"|"cred-proxy"|"git-gate"|"supervise" Its role.
---@field network? Network|Network[] The networks that it is attached to.
---@field sidecars? table<string, Sidecar> For egress: sidecars that the agent may reach through it, by host name.
---@field egress? Sidecar For a role that uses an egress: the egress, started in the same burst, with no waiting call in between.

---An entry with conditions.
---@class (exact) AllowTable
---@field host string `host`, `*.host`, or either with a port; without a port, 443 and 80.
---@field methods? string[] Allowed methods; all by default.
---@field paths? string[] Allowed paths, with `*` and `**`; all by default.
---@field scan? "off"|"warn"|"mask"|"block" What happens to a request that contains a secret: `block`, `mask`, `warn`, or `off` for a host that is meant to receive secrets. By default, what `dlp` says. With `mask`, rules that `dlp.actions` names keep their action.
---@field tls? "intercept"|"tunnel" `intercept`, the default, or `tunnel`: then the content is not inspected.

---The options of `sidecar_start` for an ordinary image, except for the image, variables and volumes.
---@class (exact) ServiceOptions
---@field command? string[] Its command and arguments; by default the image's own.
---@field name string Its name, also of its container, and the host name under which the agent reaches it.
---@field ports? integer[] Ports on its loopback that the agent reaches under its name; by default that of `ready.tcp`.
---@field ready? { tcp: integer }|{ log: string }|{ exec: string[] } When it is ready: `{ tcp = 5432 }`, `{ log = "text" }` or `{ exec = { "command" } }`; by default as soon as it has started.
---@field resources? Resources Its limits; by default two processors, 1 GiB and 512 processes.
---@field timeout? number|string How long it may take until it is ready; by default a minute.
---@field user? string The user that it runs as, a name or `uid:gid`; by default the image's own. It has no capabilities in any case.
---@field workdir? string Its working directory; by default the image's own.
---@field image string|Image Its image, which the engine must have.
---@field env? table<string, string|number|Secret> Environment variables of its command; they may be secrets.
---@field volumes? table<string, Volume> Volumes, by the path where each is mounted.

---Bounds on what a container may use.
---@class (exact) Resources
---@field cpus number Processor time, in processors.
---@field memory integer Memory, in bytes; swap is off.
---@field pids integer Processes and threads.

---The options of `run_agent`.
---@class (exact) AgentOptions
---@field image Image Its image.
---@field network? Network The network that it is attached to. Without one it has no network interface, and the probe fails if it finds one.
---@field egress Sidecar The egress sidecar, its only way out.
---@field config AgentPlan Its configuration; usually `plan.agent`.

---The options of `provision`, except for the probe's counterpart.
---@class (exact) ProvisionOptions
---@field files? ProvisionFile[] Files.
---@field prompt? string The prompt. It is written to a file whose path `provision` returns.
---@field env? table<string, string|number|Secret> Environment variables of the command only; they may be secrets.
---@field probe? Sidecar The counterpart sidecar, for the agent `probe`.

---A file for the agent's container.
---@class (exact) ProvisionFile
---@field content string The content.
---@field fill? boolean Whether `{NAME:-N}` in the content is replaced by the last N characters of the agent's secret variable NAME.
---@field mode? string The permission bits in octal, such as `"0644"`.
---@field owner? string The owner as `uid:gid`; by default the agent's user.
---@field path string The absolute path.

---The options of `bottle`, except for the workspace.
---@class (exact) BottleOptions
---@field allow? (string|AllowTable)[] Hosts and presets that it may reach, in addition to the agent's own and those of this bottle's plan.
---@field command? string[] Its agent's command and arguments; by default the agent's own.
---@field env? table<string, string> Environment variables of its agent's container, in addition to the agent's own; never secrets.
---@field image? string Its agent's image; by default the agent's own.
---@field prompt? string Its prompt.
---@field recipe? string The built-in recipe that launches it; by default the agent's own.
---@field slug? string The first part of its id; by default the agent's name.
---@field workspace? table<string, string>|boolean|Workspace Files of its workspace, by path; `true` for a copy of this bottle's; or the workspace that another bottle left.

---The options of `exec`.
---@class (exact) ExecOptions
---@field command string[] The command and its arguments.
---@field env? table<string, string> Environment variables in addition to the container's.
---@field stdin? string The standard input; empty by default.
---@field timeout? number|string How long it may take; 60 s by default.
---@field workdir? string The working directory.

---The options of `logs`.
---@class (exact) LogOptions
---@field lines? integer How many lines, from the end; 200 by default.

---The options of `copy_in`.
---@class (exact) CopyInOptions
---@field mode? string The permission bits in octal, such as `"0644"`, which is the default.
---@field path string The absolute path. Missing parent folders are created.
---@field content string Its content: any bytes.

---The options of `copy_out`.
---@class (exact) CopyOutOptions
---@field path string The absolute path of the file.

---The options of `stop`.
---@class (exact) StopOptions
---@field timeout? number|string How long it may take to end by itself before it is killed; 5 s by default.

---The options of `wait`.
---@class (exact) WaitOptions
---@field timeout? number|string How long to wait; by default without a limit.

---The options of `host.run`.
---@class (exact) HostOptions
---@field command string[] The command and its arguments; its first words must be listed in the manifest.
---@field timeout? number|string How long it may take until it is killed; 60 s by default.

---The options of `fail`.
---@class (exact) FailOptions
---@field hint? string What to do.

---The options of `prompt`.
---@class (exact) PromptOptions
---@field secret? boolean Whether the answer is hidden and returned as a secret.

---The result of a command.
---@class (exact) ExecResult
---@field exit_code integer Its exit code.
---@field stderr string Its standard error, up to a limit.
---@field stdout string Its standard output, up to a limit.
---@field truncated boolean Whether output was cut off at the limit.

---What a container is doing.
---@class (exact) ContainerState
---@field exit_code? integer Where it has ended, with which code.
---@field status string In the engine's word: `created`, `running`, `paused`, `exited`, `dead`.

---An image that the engine has, with this executable in it.
---@class (exact) ImageInfo
---@field command string[] Its default command.
---@field tag string Its reference.
---@field user string The user that it runs as.
---@field workdir string Its working directory.

---How a command ended.
---@class (exact) ExitResult
---@field exit_code integer Its exit code.

---The properties of a network.
---@class (exact) NetworkInfo
---@field id string Its id on the engine.
---@field subnet string Its address range, as CIDR.

---The properties of a volume.
---@class (exact) VolumeInfo
---@field id string Its name on the engine.

---A launch, as a recipe sees it.
---@class (exact) Plan
---@field agent AgentPlan The agent.
---@field best_effort_bounds? boolean Whether the launch goes on where the host cannot bound memory and processes.
---@field bottle string The bottle's id.
---@field cred_proxy? CredProxyPlan The cred-proxy, if the bottle has routes.
---@field credentials? CredentialPlan[] Credentials that the agent has placeholders of, each with the only hosts that its value may go to.
---@field egress EgressSpec What may leave.
---@field git? GitPlan The git gate, if the bottle has repositories.
---@field gvisor? boolean Whether that runtime has a kernel of its own, which is gVisor.
---@field image ImageOptions The agent's image.
---@field isolation "sealed"|"bridge" How the agent is cut off.
---@field isolation_said? boolean Whether the user said so: then nothing else is taken instead.
---@field keep "never"|"on_failure"|"always" Whether the workspace outlives the bottle.
---@field limits? Limits How many requests may use its credentials, all of them together.
---@field params table<string, string> What the user said with `--set`, for recipes of their own.
---@field pinned boolean Whether the user chose the id: then a conflict is an error at once.
---@field prompt? string The prompt, if there is one.
---@field provision ProvisionOptions What is put into the agent's container.
---@field runtime? string The container runtime; the best that the engine lists when absent.
---@field set_rp_filter? boolean Whether a short-lived container may set the reverse path filter of the agent's own bridge on the engine's host.
---@field supervise? SupervisePlan How the agent asks its operator, if it can.
---@field watch? integer Seconds after which the proof is repeated.
---@field workspace? WorkspacePlan The agent's workspace, if it has one.

---The agent.
---@class (exact) AgentPlan
---@field command string[] Its command and arguments.
---@field disk? integer Bytes of its own file system, where the engine's storage can bound it.
---@field env table<string, string> Variables of its container, seen by every later exec; never a secret.
---@field name string Its name.
---@field resources Resources Its bounds.
---@field secret_env? string[] The names of variables whose values it is told when it is released, and that nobody else sees.
---@field terminal boolean Whether its command is on a terminal.
---@field user string Whom it runs as: `uid:gid`, a number, or a name that the image knows.
---@field workdir string The directory its command starts in.

---The cred-proxy.
---@class (exact) CredProxyPlan
---@field routes RoutePlan[] Its routes.

---A file of the agent with a placeholder in it. Its owner is the agent, and nobody else may read it.
---@class (exact) CredentialFile
---@field content string What is in it; `{placeholder}` becomes the placeholder.
---@field path string Where: absolute, or `~/…` below the agent's home.

---A credential that the agent has a placeholder of.
---@class (exact) CredentialPlan
---@field env? string The agent's variable that holds the placeholder.
---@field file? CredentialFile The agent's file that holds the placeholder.
---@field hosts string[] The only hosts that its value may go to.
---@field limits? Limits How many requests may use it.
---@field name string Its name.
---@field places? Place[] The same with the slot at each host, and the only requests.
---@field shape? any What its placeholder looks like.
---@field source? any Where its value comes from; absent where the manifest's `env` or an `env_file` has it.

---A denied host with conditions.
---@class (exact) DenyTable
---@field host string `host`, `*.host`, or either with a port; without a port, all ports.
---@field methods? string[] Denied methods; all by default.
---@field paths? string[] Denied paths, with `*` and `**`; all by default.

---What is searched for, and what happens to a finding.
---@class (exact) Dlp
---@field action "off"|"warn"|"mask"|"block" The default action.
---@field actions? table<string, "off"|"warn"|"mask"|"block"> Actions for single rules, by id; `known-secret` is the rule for the bottle's own secrets.
---@field allow? string[] Fingerprints of findings that are allowed.
---@field responses "off"|"warn"|"mask"|"block" What happens to a *response* in which a rule finds something.
---@field rules? string[] Further rules: the contents of files in gitleaks' format.

---What may leave.
---@class (exact) EgressSpec
---@field allow (string|AllowTable)[] What the agent may reach.
---@field deny? (string|DenyTable)[] What it may not reach, whatever is allowed.
---@field dlp Dlp What is looked for in requests, and what happens then.
---@field engine? "bottler"|"pipelock" What inspects requests beside bottler's own gate.
---@field git? GitRepository[] Repositories behind the git gate.
---@field host_services? HostService[] Services of the user's machine, each under a name of its own.
---@field image? string The image of that engine, by its digest.
---@field ip_allow? string[] Private address ranges that the user means to reach, as CIDR.
---@field mode "enforce"|"audit" Whether what is not allowed is refused.
---@field roots? string[] Authorities that destinations may be certified by, beyond the public ones, in PEM.
---@field tcp? string[] Destinations of plain TCP, as `host:port`: the agent finds them under their own names.
---@field upstream_proxy? UpstreamProxy The proxy that destinations are reached through, where there is one.

---A file that the agent finds.
---@class (exact) FilePlan
---@field content string What is in it.
---@field fill? boolean Whether `{NAME:-N}` in it becomes the last N characters of what the agent is told as NAME.
---@field mode string Its permission bits in octal, as in `"0644"`.
---@field path string Where; absolute.

---The git gate.
---@class (exact) GitPlan
---@field image? string An image with git and ssh; this machine's programs if absent.
---@field repositories RepositoryPlan[] Its repositories.

---A repository behind the git gate.
---@class (exact) GitRepository
---@field name string Its name at the gate.
---@field ssh? string Where the gate reaches it over ssh, as `HOST:PORT`; by `url` if absent.
---@field url string How the agent's requests name it: `https://HOST[:PORT]/PATH`, or `http://`, without `.git`.

---What may be pushed to a repository.
---@class (exact) GitTerms
---@field author string[] Patterns of the email addresses that authors and committers may have; any if there are none.
---@field branches string[] Patterns of branches, without `refs/heads/`; `{id}` is the bottle's id. `*` matches within one component, `**` matches several.
---@field delete "none"|"own" Which branches may be deleted.
---@field force boolean Whether a branch may be replaced by one that does not contain it.
---@field lfs "refuse"|"scan" What happens to pointers to Git LFS, whose contents would go another way.
---@field max_file integer Maximum size of a file, in bytes.
---@field max_push integer Maximum size of a pack, in bytes.
---@field protected string[] Patterns of paths that no commit may change.
---@field tags string[] Patterns of tags, without `refs/tags/`. An existing tag never changes.

---A service on the loopback interface of the machine that bottler runs on.
---@class (exact) HostService
---@field name string The name that the agent finds it under: letters, digits and hyphens, without a dot.
---@field port integer Its port, on this machine's loopback interface and under that name.

---The limits of a credential, or of all credentials of a bottle together. At least one is there.
---@class (exact) Limits
---@field concurrent? integer Most requests at the same time; another one waits for a while.
---@field per? string The length of the period, such as `1m` or `1h`.
---@field requests? integer Most requests in any period of the length `per`.
---@field total? integer Most requests as long as the bottle lives.

---A host that a credential is for, and where it stands in requests to it.
---@class (exact) Place
---@field host string The host, as in `egress.allow`.
---@field methods? string[] The only methods; all where it is empty.
---@field paths? string[] The only paths, as in `egress.allow`; all where it is empty.
---@field slot string The slot.

---A repository.
---@class (exact) RepositoryPlan
---@field agent? string If the file has the public key: the socket of the ssh agent that has the private one.
---@field credential? string The name of the credential that the gate's requests get, over HTTPS.
---@field identity_file? string The file with the private key, over ssh, or with the public one. No plan has its content.
---@field known_host_key? string The host's public keys, over ssh, one in each line.
---@field name string Its name at the gate.
---@field slot? string Where that credential stands in a request.
---@field terms GitTerms What may be pushed.
---@field url string Where it is.

---A route.
---@class (exact) RoutePlan
---@field base string The beginning of every path there, with a slash at its beginning and none at its end.
---@field credential string The name of the credential that requests get.
---@field host string The host that it leads to.
---@field methods? string[] The only methods; all where it is empty.
---@field path string The first segments of the path.
---@field paths? string[] The only paths behind the route's own; all where it is empty.
---@field port integer The port there, of TLS.
---@field role? string What the agent is set up with.
---@field slot string Where it stands in a request.

---How the agent asks its operator.
---@class (exact) SupervisePlan
---@field deadline? integer Seconds after which a request for which nobody decided is rejected; never when absent.
---@field notify? string[] A command of this host that is run for each request.
---@field on_request "ask"|"wait"|"reject" What happens to a request.
---@field webhook? string A web service that is told of each request: its URL.

---A proxy that destinations are reached through. Its credentials are no part of this: they are a secret.
---@class (exact) UpstreamProxy
---@field connect "name"|"address" How destinations are named to it.
---@field no_proxy? string[] Hosts that are reached without it: `host`, `*.host`, or either with a port.
---@field url string `http://host:port` or `https://host:port`.

---The agent's workspace; its files are no part of the plan.
---@class (exact) WorkspacePlan
---@field exclude? string[] What is not copied: patterns as in `.gitignore`.
---@field mode "copy"|"mount"|"none" How the agent gets it.
---@field path string Where the agent sees it.
---@field read_only boolean Whether the agent may only read a folder that is mounted.
---@field source? string The host's folder; absent where the files come from elsewhere.

---What a project's `.bottler/hooks.lua` returns, and what a recipe receives as its second argument.
---@class (exact) Hooks
---@field before? table<string, fun(options: table, bottle: HookContext)> By name: may edit the options of an object before it is created.
---@field after? table<string, fun(handle: any, bottle: HookContext)> By name: receives the handle of a created object.
---@field replace? table<string, fun(options: table, bottle: HookContext): any> By name: creates the object itself, and returns its handle.
---@field on_failure? (fun(failure: Failure, bottle: HookContext)) In a project's hooks only: runs after the launch has failed, before the teardown.
---@field on_teardown? (fun(bottle: HookContext)) In a project's hooks only: runs at the beginning of the teardown.

---The second argument of hooks: their bottle.
---@class (exact) HookContext
---@field id string The bottle's id.
---@field plan Plan The plan.
---@field sidecar fun(options: SidecarOptions|ServiceOptions): Sidecar `sidecar_start`.

---A recipe: call it with a plan, and with hooks.
---@alias Recipe fun(plan: Plan, hooks: Hooks?): Agent

secret = {}

host = {}

---Turns a function into a recipe: callable from another recipe, with hooks that apply while it runs.
---@param launch fun(plan: Plan, hooks: Hooks?): Agent?
---@return Recipe
function recipe(launch) end

---Ensures that the engine has an image with bottler's executable on top. It is built once per bottle and cached by content. Its hooks are named `image`.
---@param options ImageOptions
---@return Image
function build_image(options) end

---Creates a bridge with a small address range of its own.
---@param options NetworkOptions
---@return Network
function network_create(options) end

---Creates a volume: a folder that outlives its containers, but not its bottle.
---@param options VolumeOptions
---@return Volume
function volume_create(options) end

---Starts a built-in sidecar (`role`), or an ordinary image (`image`) that has no network and whose ports the agent reaches under its name.
---@param options SidecarOptions|ServiceOptions
---@return Sidecar
function sidecar_start(options) end

---Creates and starts the agent's container. Its command is held back until everything is ready and the probe has passed. Its hooks are named `agent`.
---@param options AgentOptions
---@return Agent
function run_agent(options) end

---Gives the agent files, variables and a prompt; returns the prompt file's path. May be called more than once until the release.
---@param agent Agent
---@param options ProvisionOptions
---@return string?
function provision(agent, options) end

---Launches a nested bottle, complete and with its own session; this bottle's teardown removes it. It starts at once.
---@param agent string
---@param options? BottleOptions
---@return Bottle
function bottle(agent, options) end

---Runs a function and shows it as a step with its time; returns what the function returns.
---@param name string
---@param work fun(): any
---@return any
function step(name, work) end

---Shows a line.
---@param ... any
function log(...) end

---Shows the progress of a long operation; on a terminal, in place.
---@param text string
function progress(text) end

---Raises an error at this line.
---@param message any
---@param options? FailOptions
---@return never
function fail(message, options) end

---Runs a function at the teardown, in order: after objects created later are removed, and before objects created earlier.
---@param work fun()
function defer(work) end

---Runs a function with a time limit, in seconds or as `"30m"`. Returns its result, or raises an error at the limit.
---@param limit number|string
---@param work fun(...): any
---@param ... any
---@return any
function deadline(limit, work, ...) end

---Asks the user at the terminal for a line of text; with `secret = true` the input is hidden, and the result is a secret.
---@param question string
---@param options? PromptOptions
---@return string|Secret
function prompt(question, options) end

---Asks the user at the terminal for yes or no.
---@param question string
---@return boolean
function confirm(question) end

---Returns a random secret of letters, digits, `-` and `_`; 1 to 256 characters.
---@param length integer
---@return Secret
function secret.random(length) end

---Replaces each `%s` with a secret or another value; the result is a secret.
---@param format string
---@param ... any
---@return Secret
function secret.format(format, ...) end

---Runs a command on the host, if the user's own manifest lists it, before the agent is released.
---@param options HostOptions
---@return ExecResult
function host.run(options) end
