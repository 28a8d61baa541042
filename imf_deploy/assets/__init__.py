"""Files that come with the package: the embedded data set and its teacher."""
