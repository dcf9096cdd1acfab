-- As many bottles as are asked for, one after the other, in one holder.
return function(plan)
  for i = 1, tonumber(plan.params.cycles or 1) do
    local one = bottle("probe", { slug = "cycle", command = { "/bottler", "--version" } })
    if one:wait().exit_code ~= 0 then fail("cycle " .. i) end
    log("cycle", i)
  end
end
