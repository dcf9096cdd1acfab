-- One bottle writes and another one reviews, until the reviewer accepts. The writer gets the review as its next prompt
-- and continues in its own workspace. The reviewer gets the patch in its prompt and accepts by exiting with code 0. The
-- two bottles are not connected: text and files go through this script.
--
--   bottler run shell --recipe review-loop --workspace . --prompt "fix the parser" --set reviewer=./review.sh
local MAX_ROUNDS = 5

-- Launches this launch's agent with a prompt and a workspace; `command` optionally replaces its command, as shell text.
local function agent_of(plan, slug, prompt, workspace, command)
  local one = bottle(plan.agent.name, {
    slug = slug,
    prompt = prompt,
    image = plan.image.source,
    command = command and { "/bin/sh", "-c", command } or plan.agent.command,
    workspace = workspace,
  })
  return one
end

return function(plan)
  local prompt, workspace = plan.prompt, true
  for round = 1, MAX_ROUNDS do
    local writer = agent_of(plan, "writer-" .. round, prompt, workspace, plan.params.writer)
    local written = writer:wait()
    if written.exit_code ~= 0 then fail("the writer ended with " .. written.exit_code) end
    workspace = writer:workspace()

    local review = "Review this change:\n\n" .. writer:patch()
    local reviewer = agent_of(plan, "reviewer-" .. round, review, workspace, plan.params.reviewer)
    if reviewer:wait().exit_code == 0 then
      log("accepted in round", round .. ":", writer:save_patch "reviewed.patch")
      return
    end
    log("round", round, "was sent back:", reviewer:output())
    prompt = plan.prompt .. "\n\nThe reviewer says:\n" .. reviewer:output()
  end
  fail("not accepted after " .. MAX_ROUNDS .. " rounds")
end
