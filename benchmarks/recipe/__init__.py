"""Which ingredients of ``head`` help: one change at a time, on several data sets, judged on rows that are no test rows."""
