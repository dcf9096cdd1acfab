-- A writer, and a reviewer that gets what the writer left; the agents are shells.
return function(plan)
  local function shell(slug, script, workspace)
    local one = bottle("shell", {
      image = plan.image.source,
      slug = slug,
      command = { "/bin/sh", "-c", script },
      workspace = workspace,
    })
    return one
  end
  local writer = shell(
    "writer",
    [[
    git checkout -q -b work && echo more >> a && git commit -qam mine && echo rest >> a
    git log -1 --format=%an:%ae; mkdir -p .git/hooks; printf '#!/bin/sh\n' > .git/hooks/post-checkout
    git config core.fsmonitor 'touch /workspace/evil; false'; echo words >&2; exit 3]],
    true
  )
  log("writer", (writer:output():gsub("\n", "")), (writer:stderr():gsub("\n", "")))
  local reviewer = shell(
    "reviewer",
    [[
    git log --format=%s | tr '\n' ' '; git branch --show-current; git diff --stat refs/bottler/start | tail -1
    git status --short; git config core.fsmonitor; ls .git/hooks 2>/dev/null
    git commit -qam review && git log -1 --format=%an]],
    writer:workspace()
  )
  log("reviewer", (reviewer:output():gsub("\n", "|")), reviewer:stderr())
end
