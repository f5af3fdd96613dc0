# Prints the hashes of the environment's packages whose recipes forbid to
# redistribute binaries of them. Spack before 0.22 knows no such recipes.
import spack.environment as ev

for spec in ev.active_environment().all_specs():
    if not spec.external and not getattr(spec.package, "redistribute_binary", True):
        print("private", spec.dag_hash())
