-- Runs one task in several bottles at the same time: every agent gets the same prompt and a copy of the same workspace.
-- If an agent's command succeeds, its changes are saved as a patch.
--
--   bottler run shell --recipe fan-out --workspace . --set tries=5 --prompt "make the tests pass"
return function(plan)
  local tries = {}
  for i = 1, tonumber(plan.params.tries or 3) do
    tries[i] = bottle(plan.agent.name, {
      slug = "try-" .. i,
      prompt = plan.prompt,
      image = plan.image.source,
      command = plan.agent.command,
      env = { TRY = tostring(i) },
      workspace = plan.workspace ~= nil,
    })
  end

  -- All bottles are running now. A non-zero exit code is a result; a failed launch raises.
  local good = 0
  for _, try in ipairs(tries) do
    local ended = try:wait { timeout = plan.params.budget or "30m" }
    if ended.exit_code == 0 then
      good = good + 1
      log(try.slug, "succeeded:", plan.workspace and try:save_patch(try.slug .. ".patch") or try:output())
    else
      log(try.slug, "ended with", ended.exit_code)
    end
  end
  if good == 0 then fail("none of " .. #tries .. " tries succeeded", { hint = "their exit codes are above" }) end
end
