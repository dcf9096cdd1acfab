-- For CI pipelines: reads the prompt from a file, limits the time of the work, and writes the changes as a patch. A
-- command that fails also fails the pipeline. Asks no questions; a missing option is an error at once.
--
--   bottler run shell --recipe ci --prompt-file task.md --workspace . --set budget=20m --set patch=change.patch
return function(plan)
  if not plan.prompt then fail("ci: there is no prompt", { hint = "--prompt-file FILE" }) end
  if not plan.workspace then fail("ci: there is no workspace", { hint = "--workspace DIR" }) end

  local work = bottle(plan.agent.name, {
    slug = "ci",
    prompt = plan.prompt,
    image = plan.image.source,
    command = plan.agent.command,
    workspace = true,
  })
  -- Raises an error when the budget is used up; the bottle is then removed like everything else.
  local ended = work:wait { timeout = plan.params.budget or "30m" }
  log(work:output())
  if ended.exit_code ~= 0 then fail("ci: the agent ended with " .. ended.exit_code) end
  log("patch:", work:save_patch(plan.params.patch or "ci.patch"))
end
