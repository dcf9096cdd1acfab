-- For a pipeline, where nobody watches: the prompt comes from a file, the work has a time budget, the change goes out
-- as a patch, and a command that fails fails the pipeline. Nothing is asked; what is missing is said at once.
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
  -- When the budget is spent this raises, and the bottle is ended and undone like everything else.
  local ended = work:wait { timeout = plan.params.budget or "30m" }
  log(work:output())
  if ended.exit_code ~= 0 then fail("ci: the agent ended with " .. ended.exit_code) end
  log("patch:", work:save_patch(plan.params.patch or "ci.patch"))
end
