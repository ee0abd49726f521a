"""Where the search service takes its documents from: `PythonDocumentation`, a `Folder`, or a `Source` of your own.

Looking (`scan`) is quick, reading is not, and neither is asynchronous: run both in a thread, as `beamish.search_service.index` expects.
"""

from ._document import Document as Document, Found as Found, Problem as Problem, Scan as Scan, Source as Source, SourceError as SourceError
from ._folder import Folder as Folder
from ._python import PythonDocumentation as PythonDocumentation
