def document(results, options, cpus, load_average): return repr(list(results))
