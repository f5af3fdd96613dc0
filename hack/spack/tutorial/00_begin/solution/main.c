/* What the tutorial's first solution does: each rank shares its values, and the
   configuration says what becomes of them. */
#include <mpi.h>
#include <paraconf.h>
#include <pdi.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	MPI_Init(&argc, &argv);
	MPI_Comm world = MPI_COMM_WORLD;
	PC_tree_t conf = PC_parse_path("config.yml");
	PDI_init(PC_get(conf, ".pdi"));
	int rank;
	MPI_Comm_rank(world, &rank);
	double values[4];
	for (int i = 0; i < 4; ++i)
		values[i] = rank + i;
	PDI_multi_expose("computed", "rank", &rank, PDI_OUT, "values", values, PDI_OUT, NULL);
	PDI_finalize();
	PC_tree_destroy(&conf);
	MPI_Finalize();
	return 0;
}
