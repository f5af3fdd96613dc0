/* Each rank says who it is; rank 0 checks that it heard from all of them. */
#include <mpi.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	int rank, size, length, sum = 0;
	char host[MPI_MAX_PROCESSOR_NAME];

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	MPI_Get_processor_name(host, &length);
	printf("Hello from rank %d of %d on %s\n", rank, size, host);
	fflush(stdout);

	/* The sum of the ranks proves that messages travel. */
	MPI_Reduce(&rank, &sum, 1, MPI_INT, MPI_SUM, 0, MPI_COMM_WORLD);
	MPI_Finalize();
	if (rank == 0 && sum != size * (size - 1) / 2) {
		fprintf(stderr, "hello: the sum of the ranks is %d, not %d\n", sum, size * (size - 1) / 2);
		return 1;
	}
	return 0;
}
