"""The autonomous agent: a goal becomes a plan, the plan becomes tasks of the flow, and a writer makes an answer of their results."""
