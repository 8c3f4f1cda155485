"""The experiment: DAO x dendrites with controls, over seeds; its statistics and its report."""
