-- Two bottles whose agents idle.
return function()
  for i = 1, 2 do
    bottle("shell", { slug = "idle-" .. i, image = "bottler-test:busybox", command = { "/bin/sleep", "1000" } })
  end
end
