-- ARGV: id.
remove(ARGV[1])
return 0
